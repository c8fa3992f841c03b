"""What a PNG costs is known by what it is made of, and what is too dear is refused with what would do."""

from typing import Any

import pytest

from bncore.figures import FigureRefused, Options, draw
from bncore.figures.affording import LEAST_SCALE, Cost, cost_of
from bncore.figures.drawing import drawn
from tests.bncore.figures.synthetic import of_seeds


def lines(count: int, points: int) -> dict[str, Any]:
    values = [{"x": x, "y": (x * x * (line + 1)) % 7, "line": line} for line in range(count) for x in range(points)]
    encoding = {name: {"field": name, "type": "quantitative"} for name in ("x", "y")}
    return {"data": {"values": values}, "mark": "line", "encoding": {**encoding, "detail": {"field": "line"}}}


def test_a_picture_beyond_what_is_affordable_is_refused_with_the_greatest_scale() -> None:
    document = lines(20, 500)
    cost = cost_of(drawn(document, "svg").decode())
    affordable = cost.at(1.505)
    with pytest.raises(FigureRefused, match=r"at a scale of 2: use 1\.5 or less, or svg$") as refused:
        drawn(document, "png", 2.0, affordable)
    assert (refused.value.code, refused.value.field) == ("too_costly", "scale")
    assert drawn(document, "png", 1.5, affordable).startswith(b"\x89PNG")
    with pytest.raises(FigureRefused, match="name fewer series or experiments, or take svg"):
        drawn(document, "png", 0.5, 0.9 * cost.at(LEAST_SCALE))


def test_it_grows_with_what_is_drawn() -> None:
    def cost(**more: Any) -> Cost:
        return cost_of(drawn({**lines(5, 100), **more}, "svg").decode())

    few, wide = cost(), cost(width=1000)
    assert cost_of(drawn(lines(10, 100), "svg").decode()).linear > 1.9 * few.linear
    assert wide.quadratic > 2 * few.quadratic
    # A mask for each line, as large as the picture: what 39 lines once took their time for.
    clipped = cost(mark={"type": "line", "clip": True})
    assert clipped.quadratic == pytest.approx(few.quadratic * (0.05 + 5 * 0.04) / 0.05, rel=1e-9)


@pytest.mark.parametrize(("linear", "quadratic"), [(1.0, 0.0), (0.0, 1.0), (0.3, 0.7), (1e-9, 2.0)])
def test_the_greatest_scale_is_the_greatest(linear: float, quadratic: float) -> None:
    cost = Cost(linear, quadratic)
    found = cost.greatest_scale(3.0)
    assert found is not None
    assert cost.at(found) <= 3.0 < cost.at(found + 0.0101)


def test_no_line_of_curves_costs_a_layer_of_the_whole_picture() -> None:
    svg = drawn(draw("curves", of_seeds(), Options(traces=True)), "svg").decode()
    assert "clip-path=" not in svg
