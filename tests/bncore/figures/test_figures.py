"""Every figure is a valid document, and its numbers are those of the results."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import vl_convert
from scipy import special

from bncore import figures
from bncore.figures import FigureRefused, Options, Result, tables
from bncore.figures.arms import arms_of
from bncore.figures.asked import figure as asked_figure
from bncore.figures.asked import packed
from bncore.figures.bands import band, bucketed, t_quantile
from bncore.figures.document import depth_axis, quantity
from bncore.recording import Recording, Site
from tests.bncore.figures.synthetic import ERRORS, HEALTH, of_one, of_seeds, of_two, recordings, series, spec

RESULTS = {"one": of_one(), "two": of_two()}


def rows_of(document: Any) -> Iterator[dict[str, Any]]:
    """All data of a document, layer by layer."""
    if isinstance(document, dict):
        if isinstance(document.get("data"), dict):
            yield from document["data"]["values"]
        for inner in document.values():
            yield from rows_of(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from rows_of(inner)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("results", RESULTS)
@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_is_a_document_that_compiles(name: str, results: str, theme: Any) -> None:
    document = figures.draw(name, RESULTS[results], Options(theme=theme))
    text = json.dumps(document, allow_nan=False)
    assert "url" not in json.loads(text).get("data", {})
    compiled = vl_convert.vegalite_to_vega(text, vl_version="5.21")
    named = {mark["type"] for mark in _marks(compiled)}
    assert named & {"line", "rect", "symbol", "area"}
    assert _axis_titles(compiled) or name == "gradient_heatmap"
    assert document["title"]["text"]


@pytest.mark.parametrize("name", ["curves", "moments", "activation_shapes", "norm_health"])
def test_panels_below_each_other_have_one_axis_from_left_to_right(name: str) -> None:
    compiled = vl_convert.vegalite_to_vega(json.dumps(figures.draw(name, RESULTS["one"])), vl_version="5.21")
    views = [mark for mark in _marks(compiled) if mark["type"] == "group" and mark.get("axes")]
    assert len(views) > 1
    assert {axis["scale"] for view in views for axis in view["axes"] if axis["orient"] == "bottom"} == {"x"}


def _marks(vega: Any) -> Iterator[dict[str, Any]]:
    for mark in vega.get("marks", ()):
        yield mark
        yield from _marks(mark)


def _axis_titles(vega: Any) -> list[str]:
    views = [vega, *(mark for mark in _marks(vega) if mark["type"] == "group")]
    return [axis["title"] for view in views for axis in view.get("axes", ()) if axis.get("title")]


def test_students_t_is_scipys() -> None:
    """Figures are described where SciPy need not be installed."""
    degrees = np.arange(1, 1000)
    found = [t_quantile(int(one)) for one in degrees]
    np.testing.assert_allclose(found, special.stdtrit(degrees, 0.975), rtol=1e-10, atol=0)


def test_a_band_is_of_all_seeds_or_not_there() -> None:
    one = (np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, np.nan]))
    two = (np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 2.0, 1.0, 1.0]))
    three = (np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0, 1.0]))
    found = band([one, two, three])
    assert found.steps.tolist() == [1.0, 2.0]
    assert found.mean.tolist() == [2.0, 3.0]
    # t(2) = 4.302652729911275; the deviations are 1 and sqrt(3).
    half = 4.302652729911275 / math.sqrt(3) * np.array([1.0, math.sqrt(3)])
    np.testing.assert_allclose(found.upper - found.mean, half, rtol=1e-10)
    np.testing.assert_allclose(found.mean - found.lower, half, rtol=1e-10)
    steps, means = bucketed((np.array([1, 2, 3, 4, 7]), np.array([1.0, 3.0, np.inf, 1.0, 5.0])), 1, 2)
    assert (steps.tolist(), means.tolist()) == ([1.5, 3.5, 7.5], [2.0, math.inf, 5.0])


def test_a_band_is_left_out_where_it_is_beyond_all_numbers() -> None:
    steps = np.array([1.0, 2.0, 3.0])
    found = band([(steps, np.array([1e200, 1e308, 1.0])), (steps, np.array([-1e200, 1e308, 3.0]))])
    assert (found.steps.tolist(), found.mean.tolist()) == ([3.0], [2.0])


def test_a_mean_has_a_gap_where_a_seed_has_no_number() -> None:
    numbers = {0: [1.0, 2.0, np.nan, 4.0, 5.0], 1: [1.0, 2.0, 3.0, 4.0, 5.0]}
    results = {
        f"exp_{seed}": Result(spec(seed=seed), {"train/loss": (np.arange(5), np.array(values))})
        for seed, values in numbers.items()
    }
    document = figures.draw("curves", results, Options(keys=("train/loss",)))
    means = [row for row in rows_of(document) if "lower" in row][:4]
    assert [row["step"] for row in means] == [0.0, 1.0, 3.0, 4.0]
    before, last, first, after = (row["stretch"] for row in means)
    assert before == last != first == after
    drawn = list(_marks(vl_convert.vegalite_to_vega(json.dumps(document), vl_version="5.21")))
    facets = [mark["from"]["facet"]["groupby"] for mark in drawn if "facet" in mark.get("from", {})]
    assert [groups for groups in facets if "stretch" in groups] == facets
    assert len(facets) == 2


def test_curves_over_seeds_have_the_mean_of_each_arm_and_single_runs_where_asked() -> None:
    results = of_seeds()
    document = figures.draw("curves", results, Options(keys=("test/accuracy",), traces=True))
    means = {(row["arm"], row["step"]): row for row in rows_of(document) if "lower" in row}
    for norm in ("batch_norm", "batch_renorm", "none"):
        table = np.stack([results[f"exp_{norm}_{seed}"].series["test/accuracy"][1] for seed in range(5)])
        half = 2.7764451051977987 * table.std(axis=0, ddof=1) / math.sqrt(5)
        for place, step in enumerate(range(100, 2001, 100)):
            row = means[(norm, step)]
            assert row["value"] == pytest.approx(table[:, place].mean(), rel=1e-6)
            assert row["upper"] - row["value"] == pytest.approx(half[place], rel=1e-3)
    assert len({row["run"] for row in rows_of(document) if "part" in row}) == 15
    assert not [row for row in rows_of(figures.draw("curves", results)) if "part" in row]
    # 2,000 points a run become means of so many steps, which the figure says.
    assert "means of 5 steps" in json.dumps(figures.draw("curves", results)["title"])


def test_a_run_that_diverges_has_a_gap_and_a_cross() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, np.inf])
    results = {"exp_1": Result(spec(), {"train/loss": (np.arange(5), values)})}
    rows = list(rows_of(figures.draw("curves", results, Options(keys=("train/loss",)))))
    lines = [(row["step"], row["part"]) for row in rows if "part" in row]
    crosses = [row["step"] for row in rows if "part" not in row]
    assert [step for step, _ in lines] == [0.0, 1.0, 3.0]
    assert lines[0][1] == lines[1][1] != lines[2][1]
    assert crosses == [1.0, 3.0]


def test_a_single_value_is_a_point_and_of_seeds_one() -> None:
    once = {"test/accuracy": (np.array([7]), np.array([0.1]))}
    twice = {"test/accuracy": (np.array([5, 10]), np.array([0.2, 0.4]))}
    runs = {(0.5, 0): twice, (5.0, 0): once, (50.0, 0): once, (50.0, 1): once}
    results = {f"exp_{lr}_{seed}": Result(spec(seed=seed, lr=lr), found) for (lr, seed), found in runs.items()}
    view = figures.draw("curves", results, Options(keys=("test/accuracy",)))
    layers = [one for one in view["layer"] if isinstance(one["mark"], dict) and one["mark"]["type"] == "point"]
    assert [[row["arm"] for row in layer["data"]["values"]] for layer in layers] == [["50", "5"]]


def test_arms_are_named_by_what_differs_and_a_seed_counts_once() -> None:
    specs = {
        "a": spec("batch_norm", 0, name="x"), "b": spec("batch_norm", 1), "c": spec("none", 0),
        "d": spec("none", 0, name="again"), "e": spec("none", 0, lr=2.0),
    }  # fmt: skip
    arms = arms_of(specs)
    assert arms.said == "norm, lr"
    assert [(arm.label, arm.experiments) for arm in arms.arms] == [
        ("batch_norm, 0.5", ("a", "b")), ("none, 0.5", ("d",)), ("none, 2", ("e",)),
    ]  # fmt: skip
    assert arms_of({"a": specs["a"], "b": specs["b"]}).labels == ["x"]
    near = arms_of({"a": spec(lr=0.1), "b": spec(lr=math.nextafter(0.1, 1.0), seed=1)})
    assert (near.said, near.labels) == ("lr", ["0.1", "0.10000000000000002"])


def test_numbers_of_recordings_are_in_their_figures() -> None:
    found = recordings(True)
    results = {"exp_1": Result(spec(), {}, found)}
    last = found["loss_landscape"][-1]
    bands = [row for row in rows_of(figures.draw("landscape", results)) if row["step"] == last.step]
    expected = [last.arrays[name] for name in ("loss", "gradient_change", "smoothness")]
    assert [row["low"] for row in bands] == pytest.approx([values.min() for values in expected], rel=1e-6)
    assert [row["high"] for row in bands] == pytest.approx([values.max() for values in expected], rel=1e-6)
    shift = [row for row in rows_of(figures.draw("percentiles", results)) if row["step"] == 100]
    # Of the last layer before the output.
    np.testing.assert_allclose(
        [shift[0][name] for name in ("low", "middle", "high")],
        found["covariate_shift"][1].arrays["percentiles"][2],
        rtol=1e-6,
    )
    cells = list(rows_of(figures.of(found["gradient_heatmap"][0])))
    table = np.zeros((64, 10))
    for cell in cells:
        table[cell["image"], cell["class"]] = cell["value"]
    np.testing.assert_allclose(table, found["gradient_heatmap"][0].arrays["gradient"], rtol=1e-6)
    moments = rows_of(figures.of(found["activation_moments"][0]))
    means = [row for row in moments if row["site"] == "hidden.3.activation"]
    place = [site.name for site in found["activation_moments"][0].sites].index("hidden.3.activation")
    arrays = found["activation_moments"][0].arrays
    assert [row["value"] for row in means] == pytest.approx(
        [arrays["variance"][place], arrays["mean_magnitude"][place]], rel=1e-6
    )
    errors = [row["value"] for row in rows_of(figures.of(found["scale_invariance"][0]))]
    scales = found["scale_invariance"][0].arrays
    names = [f"{error}_{eps}" for error in ERRORS for eps in ("as_trained", "eps_scaled", "eps_zero")]
    greatest = np.concatenate([scales[name].max(axis=1) for name in names])
    assert errors == pytest.approx(greatest, rel=1e-6)


def test_one_recording_has_a_figure_of_any_kind_or_says_why_not() -> None:
    for some in recordings(True).values():
        assert list(rows_of(figures.of(some[0])))
    unknown = Recording("new_kind", 7, {"width": np.ones(1)}, {"width": ("site",)}, {}, (Site("a", 1, "weights"),))
    assert [row["value"] for row in rows_of(figures.of(unknown))] == [1.0]
    scalars = Recording("hessian_top_eigenvalue", 7, scalars={"eigenvalue": 3.5, "residual": math.nan})
    assert [row["value"] for row in rows_of(figures.of(scalars))] == [3.5]
    with pytest.raises(FigureRefused):
        figures.of(Recording("empty", 0))


@pytest.mark.parametrize("name", figures.FIGURES)
def test_what_a_figure_shows_is_said_to_those_who_choose_not_to_programmers(name: str) -> None:
    said = figures.FIGURES[name].summary
    assert said.endswith(".")
    assert not any(sign in said for sign in ("`", "\n", "Raises"))


def test_what_results_do_not_allow_is_refused_with_a_code() -> None:
    alone = {"exp_1": Result(spec(), series(100))}
    for name, options, code in (
        ("moments", Options(), "nothing_to_draw"), ("none", Options(), "no_such_figure"),
        ("curves", Options(keys=("train/lost",)), "no_such_series"),
    ):  # fmt: skip
        with pytest.raises(FigureRefused) as refused:
            figures.draw(name, alone, options)
        assert refused.value.code == code
    many = {f"exp_{at}": Result(spec(lr=0.1 + at), series(100)) for at in range(30)}
    with pytest.raises(FigureRefused, match="told apart"):
        figures.draw("curves", many)
    assert [one.name for one in figures.allowed([], ["norm_health"])] == ["norm_health"]
    with pytest.raises(FigureRefused, match=r"There is no figure Curvs; did you mean curves\?$"):
        figures.draw("Curvs", alone)


@pytest.mark.parametrize(
    ("depths", "ticks"),
    [
        ((1, 3, 2), [1, 2, 3]), ((1, 2), [1, 2]), ((1,), [1]), ((), [0]), ((0, 7), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((1, 9), [2, 4, 6, 8]), ((3, 110), [20, 40, 60, 80, 100]), ((0, 1000), [0, 200, 400, 600, 800, 1000]),
    ],
)  # fmt: skip
def test_ticks_of_layers_are_whole_numbers_and_few(depths: tuple[int, ...], ticks: list[int]) -> None:
    # By Vega's count three layers have ticks at 1, 1.5, 2, 2.5 and 3, which its format calls 1, 2, 2, 3, 3.
    assert depth_axis([{"depth": depth} for depth in depths])["axis"]["values"] == ticks


def test_an_axis_of_powers_holds_every_value() -> None:
    chance = np.random.default_rng(0)
    for _ in range(300):
        values = (10.0 ** chance.uniform(*sorted(chance.uniform(-12, 12, 2)), size=3)).tolist()
        axis = quantity("y", "y", values, log=True)
        low, high = axis["scale"]["domain"]
        ticks = axis["axis"]["values"]
        assert low <= min(values)
        assert max(values) <= high
        assert 2 <= len(ticks) <= 8
        assert low <= ticks[0] < ticks[-1] <= high


@pytest.mark.parametrize("deepest", [1, 3, 8, 9, 110])
def test_layers_are_counted_in_whole_numbers(deepest: int) -> None:
    axis = depth_axis({"depth": depth} for depth in range(1, deepest + 1))["axis"]
    data = [{"depth": 1}, {"depth": deepest}]
    view = {"data": {"values": data}, "mark": "point", "encoding": {"x": depth_axis(data) | {"axis": axis}}}
    shown = re.findall(r">(\d+)</text>", vl_convert.vegalite_to_svg(json.dumps(view), vl_version="5.21"))
    assert len(shown) == len(set(shown)) >= 1


def test_what_a_process_aside_draws_is_what_is_drawn_here() -> None:
    (result,) = of_one().values()
    files = {kind: [one.to_bytes() for one in some] for kind, some in result.recordings.items()}
    experiments, blobs = packed({"exp_1": result.spec}, {"exp_1": result.series}, {"exp_1": files})
    for name in figures.FIGURES:
        look = {"format": "json", "scale": 2.0, "affordable_seconds": 1.0, "options": {"keys": []}}
        asked = {"name": name, "experiments": experiments, **look}
        assert json.loads(asked_figure(json.loads(json.dumps(asked)), blobs)) == figures.draw(name, of_one())


def test_recordings_come_as_tables_to_the_bit() -> None:
    one = recordings(True)["norm_health"][1]
    text = tables.of_recordings([one], "csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(HEALTH) * 5
    for row in rows:
        place = int(row["depth"]) - 1
        assert float(row["value"]) == one.arrays[row["array"]][place]
        assert (row["site"], row["role"], int(row["step"])) == (f"hidden.{place}.norm", "norm", one.step)
    heat = recordings(True)["gradient_heatmap"][0]
    table = pq.read_table(io.BytesIO(tables.of_recordings([heat], "parquet"))).to_pylist()
    cells = [row for row in table if row["array"] == "gradient"]
    assert all(row["value"] == heat.arrays["gradient"][row["image"], row["class"]] for row in cells)
    assert len(cells) == 640
    assert {row["value"] for row in table if row["array"] == "mode"} == {0.9}
