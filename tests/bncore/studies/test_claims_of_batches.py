"""Claims on small and on uniform batches (C7, C8), of runs whose truth is known."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from bncore.studies.claims import CLAIMS
from bncore.studies.results import Place, Run
from tests.bncore.studies.made_up import DIVERGED, MISSING, Truth, about, outcomes, reported, same_effect

TEST = "test/accuracy"


def accuracy(runs: list[Run], arm: str, key: str = TEST) -> np.ndarray:
    """By seed; of what diverged, chance."""
    found = sorted((run.seed, 0.1 if run.diverged else run.metrics[key]) for run in runs if run.arm == arm)
    return np.array([value for _, value in found])


def gap(running: Mapping[int, float], batch: Mapping[int, float], precise: Mapping[int, float]) -> Truth:
    def truth(place: Place, seed: int) -> Mapping[str, float]:
        norm, size = place.arm.rsplit("-", 1)
        if norm != "bn":
            return {TEST: about(0.96, place, seed)}
        before, key = about(running[int(size)], place, seed), f"evaluation/batch-{size}"
        return {
            TEST: before,
            f"{key}/before/accuracy": before,
            f"{key}/accuracy": about(batch[int(size)], place, seed, key),
            "evaluation/precise/before/accuracy": before,
            "evaluation/precise/accuracy": about(precise[int(size)], place, seed, "precise"),
        }

    return truth


def test_the_gap_of_each_size_of_batches_and_of_each_kind_of_statistics_is_judged_by_itself() -> None:
    design, report, runs = reported(
        "small-batch-gap",
        gap(running={2: 0.4, 4: 0.94}, batch={2: 0.8, 4: 0.8}, precise={2: 0.41, 4: 0.94}),
    )
    assert outcomes(report) == {
        "batch-2": "holds",
        "precise-2": "does_not_hold equivalent",
        "batch-4": "does_not_hold contradicted",
        "precise-4": "does_not_hold equivalent",
    }
    key = "evaluation/batch-2"
    values = accuracy(runs, "bn-2", f"{key}/accuracy") - accuracy(runs, "bn-2", f"{key}/before/accuracy")
    same_effect(report.verdicts[0], design, values)
    beside = report.verdicts[0].measured
    assert beside["test accuracy, layer normalization in batches of 2"] == pytest.approx(
        accuracy(runs, "layer_norm-2").mean()
    )
    assert beside["accuracy with running averages"] == pytest.approx(accuracy(runs, "bn-2").mean())


def test_without_a_control_that_trains_a_gap_says_nothing_and_what_diverged_has_none() -> None:
    whole = gap(running={2: 0.4, 4: 0.4}, batch={2: 0.8, 4: 0.8}, precise={2: 0.8, 4: 0.8})
    _, report, _ = reported(
        "small-batch-gap",
        lambda place, seed: {TEST: about(0.12, place, seed)} if place.arm == "plain-4" else whole(place, seed),
    )
    found = {"batch-2": "holds", "precise-2": "holds"}
    assert outcomes(report) == {**found, **dict.fromkeys(("batch-4", "precise-4"), "inconclusive control_failed")}
    # A run that diverged classifies by chance with whatever statistics; one that is missing is said.
    _, report, _ = reported(
        "small-batch-gap", lambda place, seed: DIVERGED if place.arm == "bn-2" else whole(place, seed)
    )
    assert outcomes(report)["batch-2"] == "does_not_hold equivalent"
    _, report, _ = reported(
        "small-batch-gap", lambda place, seed: MISSING if (place.arm, seed) == ("bn-2", 3) else whole(place, seed)
    )
    assert outcomes(report)["batch-2"] == "inconclusive"
    assert "seeds 3" in report.verdicts[0].sentence


@pytest.mark.parametrize(
    ("plain", "normalized", "outcome"),
    [
        (0.96, 0.1, "holds"),
        (0.96, 0.95, "does_not_hold equivalent"),
        (0.9, 0.96, "does_not_hold contradicted"),
        (0.2, 0.1, "inconclusive control_failed"),
    ],
)
def test_batches_of_one_class_need_a_control_that_learns_from_them(plain: float, normalized: float, outcome: str):
    means = {"plain": plain, "bn": normalized, "layer_norm": 0.97}
    design, report, runs = reported(
        "non-iid-batches", lambda place, seed: {TEST: about(means[place.arm], place, seed, sd=0.002)}
    )
    assert outcomes(report) == {"one-class": outcome}
    same_effect(report.verdicts[0], design, accuracy(runs, "plain") - accuracy(runs, "bn"))


def test_a_network_that_diverged_in_batches_of_one_class_classifies_by_chance() -> None:
    means = {"plain": 0.96, "bn": 0.4, "layer_norm": 0.97}
    design, report, _ = reported(
        "non-iid-batches",
        lambda place, seed: DIVERGED if (place.arm, seed) == ("bn", 0) else {TEST: means[place.arm] + 0.001 * seed},
    )
    assert outcomes(report) == {"one-class": "holds"}
    same_effect(report.verdicts[0], design, [0.86, *[0.56] * 9])


def repaired(share: float, whole: float = 0.95, small: float = 0.55, plain: float = 0.96) -> Truth:
    means = {"plain": plain, "bn": small, "brn": small + share * (whole - small)}
    return lambda place, seed: {
        TEST: about(
            whole if place.arm in ("bn-32", "bn-mixed") else means[place.arm.split("-")[0]], place, seed, sd=0.001
        )
    }


@pytest.mark.parametrize(
    ("truth", "outcome"),
    [
        (repaired(0.9), "holds"),
        (repaired(0.2), "does_not_hold contradicted"),
        (repaired(0.5), "does_not_hold equivalent"),
        (repaired(0.9, small=0.93), "inconclusive control_failed"),
        (repaired(0.9, plain=0.11), "inconclusive control_failed"),
        (repaired(0.9, whole=0.2, small=0.12), "inconclusive control_failed"),
    ],
)
def test_more_than_half_is_repaired_where_there_is_something_to_repair(truth: Truth, outcome: str) -> None:
    design, report, runs = reported("batch-renorm-repairs", truth)
    assert outcomes(report) == dict.fromkeys(("repairs-2", "repairs-4", "repairs-one-class"), outcome)
    for verdict, batch, whole in zip(
        report.verdicts, ("2", "4", "one-class"), ("bn-32", "bn-32", "bn-mixed"), strict=True
    ):
        brn, bn, mixed = (accuracy(runs, arm) for arm in (f"brn-{batch}", f"bn-{batch}", whole))
        same_effect(verdict, design, (brn - bn) - 0.5 * (mixed - bn))


def test_the_bounds_of_batch_renorm_open_between_a_twentieth_and_three_tenths_of_training() -> None:
    design = CLAIMS["batch-renorm-repairs"].design("cpu")
    for arm in design.arms:
        if arm.name.startswith("brn"):
            norm, steps = arm.patch["network"]["norm"], arm.patch["train"]["steps"]
            assert (norm["momentum"], norm["r_max"]["end"], norm["d_max"]["end"]) == (0.01, 3.0, 5.0)
            assert (norm["r_max"]["start_step"], norm["r_max"]["end_step"]) == (steps / 20, steps * 3 / 10)
    lost = repaired(0.9)
    _, report, _ = reported(
        "batch-renorm-repairs", lambda place, seed: MISSING if (place.arm, seed) == ("bn-2", 1) else lost(place, seed)
    )
    assert outcomes(report)["repairs-2"] == "inconclusive"
    assert outcomes(report)["repairs-4"] == "holds"


def errors(added: Mapping[str, float]) -> Truth:
    """As if each halving added so much to an error of 3 % at 32."""

    def truth(place: Place, seed: int) -> Mapping[str, float]:
        kind, size = place.arm.split("-")
        mean = 0.97 - added[kind] * math.log2(32 / int(size))
        return {
            TEST: about(mean, place, seed, sd=0.002),
            "evaluation/precise/accuracy": about(0.97 - 0.01 * math.log2(32 / int(size)), place, seed, "p", 0.002),
        }

    return truth


STEADY = {"bn": 0.03, "gn": 0.0, "frn": 0.001, "ghost": 0.02}


def test_slopes_over_halvings_are_least_squares_of_each_seed() -> None:
    design, report, runs = reported("small-batch-alternatives", errors(STEADY))
    assert outcomes(report) == {"group-norm-steady": "holds equivalent", "batch-norm-worse": "holds"}
    for verdict, kind, sizes in zip(report.verdicts, ("gn", "bn"), ((32, 16, 8, 4, 2), (8, 4, 2)), strict=True):
        each = np.stack([1 - accuracy(runs, f"{kind}-{size}") for size in sizes])
        same_effect(verdict, design, list(np.polyfit(np.log2(32 / np.array(sizes)), each, 1)[0]))
    beside = report.verdicts[0].measured
    assert beside["error per halving, ghost batch normalization in steps of 32"] == pytest.approx(0.02, abs=1e-3)
    assert beside["error per halving, filter response normalization"] == pytest.approx(0.001, abs=1e-3)
    assert beside["error per halving, batch normalization with precise statistics"] == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ({"gn": 0.006, "bn": 0.005}, ("does_not_hold", "does_not_hold equivalent")),
        ({"gn": -0.006, "bn": -0.02}, ("does_not_hold", "does_not_hold contradicted")),
        ({"gn": 0.2, "bn": 0.4}, ("inconclusive control_failed", "inconclusive control_failed")),
    ],
)
def test_alternatives_that_are_none(added: Mapping[str, float], found: tuple[str, str]) -> None:
    _, report, _ = reported("small-batch-alternatives", errors({**STEADY, **added}))
    assert tuple(outcomes(report).values()) == found


def test_a_batch_size_that_is_missing_has_no_slope() -> None:
    whole = errors(STEADY)
    _, report, _ = reported(
        "small-batch-alternatives",
        lambda place, seed: MISSING if (place.arm, seed) == ("gn-16", 9) else whole(place, seed),
    )
    assert outcomes(report) == {"group-norm-steady": "inconclusive", "batch-norm-worse": "holds"}
