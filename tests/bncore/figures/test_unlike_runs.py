"""Figures of runs that are not alike: they ended at other steps, came twice, or are more than there are colours."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from bncore import figures
from bncore.comparison import Run, compare
from bncore.figures import Result, theme
from bncore.figures.arms import arms_of
from bncore.figures.asked import figure as asked_figure
from bncore.figures.asked import packed
from bncore.recording import Recording, Site
from tests.bncore.figures.synthetic import ERRORS, recordings, spec
from tests.bncore.figures.test_figures import rows_of

MANY = len(theme.PALETTES["light"]) + 1


def _health(step: int, roles: int = 1) -> Recording:
    sites = tuple(Site(f"norm{place}", place, f"norm_{place % roles}") for place in range(2 * roles))
    return Recording("norm_health", step, {"gap": step + np.arange(len(sites))}, {"gap": ("site",)}, {}, sites)


def _probe(step: int) -> Recording:
    arrays = {"eta": np.array([0.1, 1.0]), "loss": np.array([1.0, 2.0]) + step}
    return Recording("step_probe", step, arrays, {"eta": ("distance",), "loss": ("distance",)})


def _scaled(step: int) -> Recording:
    names = [f"{error}_{eps}" for error in ERRORS for eps in ("as_trained", "eps_zero")]
    arrays = {"factor": np.array([0.1, 10.0]), **dict.fromkeys(names, np.full((2, 1), 1e-3 * (step + 1)))}
    axes: dict[str, tuple[str, ...]] = {"factor": ("factor",), **dict.fromkeys(names, ("factor", "site"))}
    return Recording("scale_invariance", step, arrays, axes, {}, (Site("linear1", 1, "weights"),))


def _encodings(document: Any, channel: str) -> list[Mapping[str, Any]]:
    if isinstance(document, list):
        return [found for inner in document for found in _encodings(inner, channel)]
    if not isinstance(document, dict):
        return []
    own = document.get("encoding", {}).get(channel, {})
    return [own] * ("scale" in own) + _encodings([*document.values()], channel)


def _dashes(document: Mapping[str, Any]) -> tuple[str, dict[str, list[int]]]:
    """The field, and by its words the dash."""
    found = _encodings(document, "strokeDash")[0]
    return found["field"], dict(zip(found["scale"]["domain"], found["scale"]["range"], strict=True))


@pytest.mark.parametrize("made", [_health, _probe], ids=["by_depth", "distances"])
def test_the_last_of_a_run_that_ended_early_is_not_drawn_as_its_first(made: Any) -> None:
    kind = made(0).kind
    long, short = ({kind: [made(0), made(last)]} for last in (100, 60))
    document = figures.draw(kind, {"exp_1": Result(spec(), {}, long), "exp_2": Result(spec("none"), {}, short)})
    field, known = _dashes(document)
    assert list(known) == ["before training", "last of each run, steps 60 to 100"]
    drawn = {(row["run"], row["step"]): known[row[field]] for row in rows_of(document)}
    assert drawn["exp_1", "before training"] == drawn["exp_2", "before training"]
    assert drawn["exp_1", "step 100"] == drawn["exp_2", "step 60"] != drawn["exp_1", "before training"]
    alike = figures.draw(kind, {"exp_1": Result(spec(), {}, long), "exp_2": Result(spec("none"), {}, long)})
    assert list(_dashes(alike)[1]) == ["before training", "step 100"]


def test_a_seed_that_ended_early_has_its_last_recording_beside_the_others() -> None:
    runs = {0: [0, 50, 100], 1: [0, 50, 80], 2: [60]}
    results = {
        f"exp_{seed}": Result(spec(seed=seed), {}, {"norm_health": [_health(step, 2) for step in steps]})
        for seed, steps in runs.items()
    }
    document = figures.draw("norm_health", results)
    field, known = _dashes(document)
    drawn = {(row["run"], row["step"]): row[field] for row in rows_of(document)}
    first, last = known
    # Of one arm colours are roles, and what lies between the first and the last has no dash.
    assert drawn == {
        ("exp_0", "before training"): first, ("exp_0", "step 100"): last, ("exp_1", "before training"): first,
        ("exp_1", "step 80"): last, ("exp_2", "step 60"): last,
    }  # fmt: skip


@pytest.mark.parametrize("made", [_health, _probe], ids=["by_depth", "distances"])
def test_more_arms_than_colours_are_told_apart_by_dashes_and_show_their_last(made: Any) -> None:
    kind = made(0).kind
    results = {
        f"exp_{place}": Result(spec(lr=0.1 * 2**place), {}, {kind: [made(0), made(100)]}) for place in range(MANY)
    }
    document = figures.draw(kind, results)
    (colours, *_), (dashes, *_) = (_encodings(document, channel) for channel in ("color", "strokeDash"))
    assert colours["field"] == dashes["field"] == "arm"
    assert len(set(zip(colours["scale"]["range"], map(str, dashes["scale"]["range"]), strict=True))) == MANY
    assert {row["step"] for row in rows_of(document)} == {"step 100"}
    assert "step 100" in " ".join(document["title"]["subtitle"])


def test_scale_invariance_shows_the_last_of_every_run_and_more_arms_than_dashes_by_colour() -> None:
    norms = ("batch_norm", "layer_norm", "group_norm", "rms_norm")
    results = {
        f"exp_{place}": Result(spec(norm), {}, {"scale_invariance": [_scaled(0), _scaled(10 * place)]})
        for place, norm in enumerate(norms, 1)
    }
    few = dict(list(results.items())[:3])
    document = figures.draw("scale_invariance", few)
    assert {(row["run"], row["step"]) for row in rows_of(document)} == {
        ("exp_1", "step 10"), ("exp_2", "step 20"), ("exp_3", "step 30"),
    }  # fmt: skip
    assert {row["eps"] for row in rows_of(document)} == {"eps as trained", "no eps"}
    document = figures.draw("scale_invariance", results)
    (colours, *_) = _encodings(document, "color")
    assert (colours["field"], colours["scale"]["domain"]) == ("arm", list(norms))
    assert {row["run"] for row in rows_of(document)} == set(results)
    assert {row["eps"] for row in rows_of(document)} == {"eps as trained"}
    assert "eps as trained" in " ".join(document["title"]["subtitle"])


def test_of_a_seed_that_came_twice_a_figure_and_a_table_have_the_same_run() -> None:
    """The first failed, the second ended, the third still waits."""
    states = {"exp_1": "failed", "exp_2": "succeeded", "exp_3": "queued", "exp_4": "succeeded"}
    specs = {one: spec(seed=place // 3) for place, one in enumerate(states)}
    series = {
        one: {"test/accuracy": (np.array([1, 2]), np.array([place, place + 1.0]))} for place, one in enumerate(specs)
    }
    unfinished = [one for one, state in states.items() if state != "succeeded"]
    (arm,) = arms_of(specs, unfinished).arms
    (group,) = compare([Run(one, specs[one], states[one]) for one in states], []).groups
    assert arm.experiments == tuple(run.id for run in group.runs) == ("exp_2", "exp_4")
    described, blobs = packed(specs, {**series, "exp_3": {}}, {}, unfinished)
    look = {"name": "curves", "options": {"keys": ["test/accuracy"]}, "format": "json", "scale": 1.0}
    drawn = asked_figure({**look, "affordable_seconds": 60.0, "experiments": described}, blobs)
    rows = [row for row in rows_of(json.loads(drawn)) if "lower" in row]
    assert [row["value"] for row in rows[:2]] == [2.0, 3.0]
    assert arms_of(dict(reversed(specs.items()))).arms[0].experiments == ("exp_4", "exp_3")


@pytest.mark.parametrize("name", ["percentiles", "gradient_heatmap"])
def test_what_has_no_panel_is_said(name: str) -> None:
    def subtitle(arms: int, seeds: int) -> str:
        results = {
            f"exp_{place}_{seed}": Result(spec(lr=0.1 * 2**place, seed=seed), {}, recordings(True))
            for place in range(arms)
            for seed in range(seeds)
        }
        return " ".join(figures.draw(name, results)["title"]["subtitle"])

    assert "6 of 8 are shown" in subtitle(8, 1)
    assert "of one seed each" in subtitle(2, 2)
    assert "of one seed each" in subtitle(1, 2)
    assert "shown" not in subtitle(6, 1) + subtitle(1, 1)
    assert "seed" not in subtitle(6, 1) + subtitle(1, 1)


def test_no_line_by_depth_goes_across_a_layer_without_a_number() -> None:
    """Of frozen weights there is no gradient, and on a logarithmic axis no 0."""
    sites = tuple(Site(f"linear{depth}", depth, "weights") for depth in range(1, 7))
    norms = np.array([1.0, 2.0, np.nan, 4.0, 0.0, 6.0])
    found = Recording("gradient_norms", 0, {"norm": norms}, {"norm": ("site",)}, {}, sites)
    document = figures.draw("gradient_norms", {"exp_1": Result(spec(), {}, {"gradient_norms": [found]})})
    parts = {row["depth"]: row["part"] for row in rows_of(document)}
    assert list(parts) == [1, 2, 4, 6]
    assert parts[1] == parts[2]
    assert len({parts[2], parts[4], parts[6]}) == 3
    assert {"field": "part"} in document["encoding"]["detail"]


def test_a_band_has_a_gap_where_a_loss_was_not_finite_and_a_single_step_is_seen() -> None:
    def at(step: int, high: float) -> Recording:
        return Recording("loss_landscape", step, {"loss": np.array([1.0, high])}, {"loss": ("distance",)})

    highs = {0: 2.0, 10: 3.0, 20: np.inf, 30: 4.0, 40: np.nan, 50: 5.0, 60: 6.0}
    found = [at(step, high) for step, high in highs.items()]
    document = figures.draw("landscape", {"exp_1": Result(spec(), {}, {"loss_landscape": found})})
    parts = {row["step"]: row["part"] for row in rows_of(document)}
    assert [step for step in highs if step not in parts] == [20, 40]
    assert (parts[0] == parts[10], parts[50] == parts[60], len({parts[0], parts[30], parts[50]})) == (True, True, 3)
    assert {"field": "part"} in document["encoding"]["detail"]
    (alone,) = [layer["data"]["values"] for layer in document["layer"] if "data" in layer]
    assert [(row["step"], row["low"], row["high"]) for row in alone] == [(30, 1.0, 4.0)]


def test_percentiles_have_a_gap_where_a_step_has_none_and_a_single_step_is_seen() -> None:
    def at(step: int, middle: float) -> Recording:
        table = np.array([[middle - 1.0, middle, middle + 1.0]])
        sites = (Site("activation1", 1, "pre_activation"),)
        return Recording(
            "covariate_shift", step, {"percentiles": table}, {"percentiles": ("site", "percentile")}, {}, sites
        )

    steps = {0: 0.0, 10: 1.0, 20: np.nan, 30: 2.0}
    found = [at(step, middle) for step, middle in steps.items()]
    document = figures.draw("percentiles", {"exp_1": Result(spec(), {}, {"covariate_shift": found})})
    rows = {row["step"]: (row["part"], row["is_alone"], row["middle"]) for row in rows_of(document)}
    assert rows == {0: (0, False, 0.0), 10: (0, False, 1.0), 30: (1, True, 2.0)}
    assert document["encoding"]["detail"] == [{"field": "part"}]
    assert [layer["mark"]["type"] for layer in document["layer"] if "transform" in layer] == ["rule", "point"]
