"""Runs side by side: the numbers are those of a computation by hand, and none is made up."""

import itertools
import math
import statistics
from typing import Any

import pytest

from bncore.comparison import Ends, MeasureUnknown, Run, SortUnknown, compare, in_order, measures, usual_measures
from bncore.comparison.differing import DECIDE_NO_RESULT
from bncore.figures.arms import arms_of
from bncore.spec import ExperimentSpec, load_spec

ACCURACY = "test/accuracy"
NUMBERS = itertools.count()


def run(
    seed: int = 0, accuracy: float | None = 0.5, state: str = "succeeded", reason: str | None = "budget",
    reached: int | None = None, best: float = 0.75, steps: int = 400, **spec: Any,
) -> Run:  # fmt: skip
    document = {**spec, "train": {"steps": steps, "seed": seed, **spec.get("train", {})}}
    series = {} if accuracy is None else {ACCURACY: Ends(0.1, accuracy, 0.05, 0.9)}
    summary = {"best": {"metric": ACCURACY, "value": best, "step": 40}, "steps_to_target": reached, "seconds": 2.5}
    complete = load_spec(document).model_dump(mode="json")
    return Run(f"exp_{next(NUMBERS):05}", complete, state, reason, steps, summary, series)


def compared(runs: list[Run], *names: str) -> Any:
    known = {key for one in runs for key in one.series} if names else {ACCURACY, "test/loss"}
    return compare(runs, measures(names or usual_measures(runs), known))


def test_what_was_measured_beside_tells_nothing_apart() -> None:
    # Diagnostics leave training as it is, to the bit: two seeds, of which one was looked into, are two of one arm.
    looked = [{"kind": "weight_norms", "at": [0]}]
    found = compared([run(0), run(1, diagnostics=looked), run(2, diagnostics=[*looked, {"kind": "step_probe"}])])
    assert (found.paths, [group.cells[ACCURACY].n for group in found.groups]) == ((), [3])


def test_a_table_and_a_figure_are_told_apart_by_the_same_fields() -> None:
    """Every field of a spec decides results, or stands in the one list of those that do not."""
    others = {
        "name": "other",
        "tags": {"q": "a"},
        "diagnostics": [{"kind": "weight_norms", "at": [0]}],
        "checkpoint": {"every_steps": 7},
        "max_restarts": 9,
        "deadline_seconds": 77,
        "stall_seconds": 99,
    }
    assert {*others, "train.seed"} == set(DECIDE_NO_RESULT)
    deciding = {
        "network": {"kind": "mlp", "hidden": [5]},
        "data": {"kind": "digits", "as": "row"},
        "optimizer": {"lr": 0.25},
        "schedule": {"kind": "cosine"},
        "loss": {"label_smoothing": 0.1},
        "train": {"batch_size": 30},
        "evaluation": {"every_steps": 9},
        "resources": {"threads": 2},
        "start_from": {"checkpoint": "ckp_0198c5a0000070008000000000000000"},
    }
    assert {*others, *deciding} == set(ExperimentSpec.model_fields)
    alike = [run(0), *(run(seed, **{name: value}) for seed, (name, value) in enumerate(others.items(), start=1))]
    for changed in ({}, *({name: value} for name, value in deciding.items())):
        runs = [*alike, run(99, **changed)] if changed else alike
        groups = [[one.id for one in group.runs] for group in compared(runs, ACCURACY).groups]
        assert [len(group) for group in groups] == ([len(alike), 1] if changed else [len(alike)]), changed
        assert [list(arm.experiments) for arm in arms_of({one.id: one.spec for one in runs}).arms] == groups


def test_groups_are_the_specs_without_seed_name_and_tags_and_their_numbers_those_by_hand() -> None:
    values = {(lr, seed): 0.5 + 0.1 * lr + 0.01 * seed**2 for lr in (0.1, 0.2, 0.4) for seed in range(5)}
    runs = [
        run(seed, value, name=f"{lr} {seed}", tags={"seed": str(seed)}, optimizer={"kind": "sgd", "lr": lr})
        for (lr, seed), value in values.items()
    ]
    found = compared(runs)
    assert found.paths == ("optimizer.lr",)
    assert found.warnings == ()
    assert [group.where["optimizer.lr"] for group in in_order(found)] == [0.4, 0.2, 0.1]
    for group in found.groups:
        mine = [value for (lr, _), value in values.items() if lr == group.where["optimizer.lr"]]
        cell = group.cells[ACCURACY]
        assert (cell.n, dict(cell.values)) == (5, dict(enumerate(mine)))
        assert cell.mean == pytest.approx(sum(mine) / 5, rel=1e-14)
        assert cell.sd == pytest.approx(statistics.stdev(mine), rel=1e-12)
    assert [group.where["optimizer.lr"] for group in in_order(found, "optimizer.lr")] == [0.1, 0.2, 0.4]
    with pytest.raises(SortUnknown, match=r"test/accuracy, best, optimizer\.lr; a minus"):
        in_order(found, "lr")


def test_what_diverged_did_not_reach_or_has_not_ended_is_counted_and_never_averaged() -> None:
    target = {"train": {"target": {"test_accuracy": 0.7}}}
    runs = [
        run(0, 0.8, reached=100, **target), run(1, 0.6, **target), run(2, 0.9, reached=300, **target),
        run(3, 0.1, reason="diverged", reached=50, **target), run(4, math.nan, **target),
        run(5, 0.2, state="running", reason=None, **target), run(6, 0.3, state="failed", reason=None, **target),
    ]  # fmt: skip
    found = compared(runs)
    (group,) = found.groups
    cell = group.cells[ACCURACY]
    assert (dict(cell.values), cell.diverged, cell.not_finite) == ({0: 0.8, 1: 0.6, 2: 0.9}, 1, 1)
    steps = group.cells["steps_to_target"]
    assert (dict(steps.values), steps.mean, steps.not_reached) == ({0: 100, 2: 300, 3: 50}, 150.0, 2)
    assert (len(group.ended), group.diverged, group.unfinished) == (5, 1, {"running": 1, "failed": 1})
    assert found.warnings == (
        "Runs without a result are in no mean: 1 failed, 1 running.",
        "1 of 5 runs diverged: in no mean but that of the steps to a target they had reached.",
    )


def test_one_run_has_no_deviation_and_a_seed_that_comes_again_counts_once() -> None:
    runs = [run(0, 0.5), run(0, 0.6), run(0, 0.7, state="cancelled", reason=None)]
    found = compared(runs)
    (group,) = found.groups
    assert (group.cells[ACCURACY].mean, group.cells[ACCURACY].sd) == (0.6, None)
    assert [one.id for one in group.repeats] == [runs[0].id, runs[2].id]
    assert "2 left out" in found.warnings[-1]


def test_what_another_kind_has_not_differs_from_nothing_and_what_a_kind_decides_is_told_apart() -> None:
    norms = [{"kind": "batch_norm"}, {"kind": "batch_renorm"}, {"kind": "batch_renorm", "r_max": 5.0}, {"kind": "none"}]
    found = compared([run(seed, network={"kind": "mlp", "norm": norm}) for norm in norms for seed in range(2)])
    assert "network.norm.kind" in found.paths
    assert "network.norm.r_max" in found.paths
    # Two of one kind have another r_max, so that the kind does not say it; eps is a default of each kind.
    assert "network.norm.r_max" not in found.following
    assert set(found.following.values()) <= {"network.norm.kind"}
    assert len(found.groups) == 4
    assert all(len(group.runs) == 2 for group in found.groups)
    none = next(group for group in found.groups if group.where["network.norm.kind"] == "none")
    assert "network.norm.r_max" not in none.where
    # A field that was written by an older version is another matter within one kind: never the same group.
    older = [run(0), run(1)]
    del older[1].spec["train"]["ema"]  # type: ignore[attr-defined]
    assert len(compared(older).groups) == 2


def test_other_data_and_other_budgets_are_said() -> None:
    found = compared([run(0), run(1, steps=800), run(2, None, data={"kind": "wine"})])
    assert found.warnings[0].startswith("The data differ (data.")
    assert "The budgets differ: 400 and 800 steps." in found.warnings
    assert [measure.name for measure in found.measures] == [ACCURACY, "test/loss", "best"]


def test_measures_are_ends_of_series_or_numbers_of_the_summary() -> None:
    names = (f"{ACCURACY}:max", f"{ACCURACY}:min", f"{ACCURACY}:first", "seconds", "best")
    (group,) = compared([run(best=0.8)], *names).groups
    assert [group.cells[name].mean for name in names] == [0.9, 0.05, 0.1, 2.5, 0.8]
    with pytest.raises(MeasureUnknown, match="best, steps_to_target, seconds, test/accuracy; a series may end in"):
        compared([run()], "test/acuracy")


def test_the_best_of_losses_is_the_least() -> None:
    losses = {0.1: 0.5, 0.2: 0.1, 0.4: 0.3}
    runs = [run(best=loss, optimizer={"kind": "sgd", "lr": lr}) for lr, loss in losses.items()]
    of_accuracy = in_order(compared(runs, "best"))
    assert [group.cells["best"].mean for group in of_accuracy] == [0.5, 0.3, 0.1]
    for one in runs:
        one.summary["best"]["metric"] = "test/loss"
    of_loss = in_order(compared(runs, "best"))
    assert [group.cells["best"].mean for group in of_loss] == [0.1, 0.3, 0.5]


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        ((1e200, -1e200), 0.0, math.sqrt(2) * 1e200),
        ((1.7e308, 1.7e308), 1.7e308, 0.0),
        ((3e150, 1e150), 2e150, math.sqrt(2) * 1e150),
        ((3e-200, 1e-200), 2e-200, math.sqrt(2) * 1e-200),
        ((0.1, 0.1, 0.1), 0.1, 0.0),
    ],
)
def test_numbers_whose_squares_overflow_or_vanish_have_a_mean_and_a_deviation(
    values: Any, mean: float, sd: float
) -> None:
    (group,) = compared([run(seed, value) for seed, value in enumerate(values)]).groups
    cell = group.cells[ACCURACY]
    assert cell.mean == pytest.approx(mean, rel=1e-14)
    assert cell.sd == pytest.approx(sd, rel=1e-14)
