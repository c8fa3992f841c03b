"""What a sensitivity figure shows of points that stand alone, and of those that have no mean."""

from typing import Any

import pytest

from bncore.figures.drawing import drawn
from bncore.figures.results import Options
from bncore.figures.sensitivity import sensitivity
from bncore.figures.swept import LOST, PRUNED, Swept, SweptPoint

RATES, ARMS = (0.1, 0.2, 0.4), ("none", "bn", "ln")


def swept(**ended: int) -> Swept:
    """Three arms: the first is whole, of the second one point is left, of the third none."""
    left = {"none": RATES, "bn": (0.2,), "ln": ()}
    points = [
        SweptPoint(at, {"optimizer.lr": rate}, arm, (0.5, 0.6 + rate), **({} if rate in left[arm] else ended))
        for at, (arm, rate) in enumerate((arm, rate) for arm in ARMS for rate in RATES)
    ]
    return Swept(("optimizer.lr",), ARMS, "validation/accuracy", larger_is_better=True, points=tuple(points))


def layers(figure: Any, mark: str) -> list[dict[str, Any]]:
    return [one for one in figure["layer"] if one["mark"]["type"] == mark]


def test_an_interval_of_a_point_alone_is_a_bar() -> None:
    figure = sensitivity(swept(pruned_at=10), Options())
    (band,), (bar,) = layers(figure, "area"), layers(figure, "rule")
    assert [(row["arm"], row["x"]) for row in band["data"]["values"]] == [("none", rate) for rate in RATES]
    assert [(row["arm"], row["x"]) for row in bar["data"]["values"]] == [("bn", 0.2)]
    assert bar["encoding"] == band["encoding"]
    assert bar["data"]["values"][0]["lower"] < 0.65 < bar["data"]["values"][0]["upper"]


@pytest.mark.parametrize(("ended", "shape"), [({"pruned_at": 10}, "triangle-down"), ({"lost": 1}, "cross")])
def test_marks_of_points_without_a_mean_stand_beside_each_other(ended: dict[str, int], shape: str) -> None:
    figure = sensitivity(swept(**ended), Options())
    marks = [one for one in layers(figure, "point") if one["mark"].get("shape") == shape]
    assert [{row["arm"] for row in one["data"]["values"]} for one in marks] == [{"bn"}, {"ln"}]
    apart = [one["mark"]["xOffset"] for one in marks]
    assert sum(apart) == 0
    assert apart[1] - apart[0] >= 60**0.5, "the width of a mark is the root of its size"
    assert {row["fate"] for one in marks for row in one["data"]["values"]} == {PRUNED if "pruned_at" in ended else LOST}
    assert drawn(figure, "svg").count(b"aria-roledescription") >= 5
