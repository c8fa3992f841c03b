"""From stored rows to one effect a seed: what diverged, what never came, what is missing."""

import math
import random

import pytest

from bncore.studies.estimand import Bounds, Estimand, Reaching, effects
from bncore.studies.guards import enough_pairs
from bncore.studies.measures import MeanOverSteps, Within
from bncore.studies.results import Metric, Place, ResultsUnfit, results
from bncore.studies.sums import total

ACCURACY = Metric("test/accuracy", when_diverged=0.1)
STEPS = Metric("steps_to_target", higher_is_better=False)
BN, PLAIN = Place("bn"), Place("plain")


def row(arm: str, seed: int, diverged: bool = False, **metrics: float | None) -> dict[str, object]:
    named = {key.replace("__", "/"): value for key, value in metrics.items()}
    return {"arm": arm, "seed": seed, "metrics": named, "diverged": diverged}


def test_a_run_that_diverged_counts_as_chance_and_one_that_is_not_there_as_missing() -> None:
    rows = [row("bn", seed, test__accuracy=0.9 + seed / 100) for seed in range(4)]
    # Its last evaluation was fine, the network is not.
    rows += [row("plain", 0, diverged=True, test__accuracy=0.8), row("plain", 1, test__accuracy=math.nan)]
    rows += [row("plain", 2, test__accuracy=0.9)]
    found = effects(Estimand(ACCURACY), results(random.Random(1).sample(rows, len(rows))), BN, PLAIN)
    assert found.seeds == (0, 1, 2)
    assert found.values == pytest.approx((0.9 - 0.1, 0.91 - 0.1, 0.92 - 0.9), abs=1e-15)
    assert found.missing == (3,)
    assert found.diverged == {"bn": 0, "plain": 1}
    # Seed 9 failed in both arms.
    assert effects(Estimand(ACCURACY), results(rows), BN, PLAIN, planned=(0, 1, 9)).missing == (3, 9)


def test_effects_are_positive_where_the_claim_is_true() -> None:
    loss = Metric("test/loss", higher_is_better=False)
    rows = results([row("bn", 0, test__loss=0.2), row("plain", 0, test__loss=0.6), row("plain", 1, test__loss=0.0)])
    assert effects(Estimand(loss), rows, BN, PLAIN).values == pytest.approx((0.4,))
    assert effects(Estimand(loss, "log_ratio"), rows, BN, PLAIN).values == pytest.approx((math.log(3),))
    assert effects(Estimand(Metric("test/loss"), "value"), rows, PLAIN).values == (0.6, 0.0)
    # A loss of 0 has no logarithm: the pair is missing, and is not infinitely good.
    same = effects(Estimand(loss, "log_ratio"), rows, PLAIN, Place("plain"))
    assert (same.seeds, same.missing, same.unusable) == ((0,), (1,), (1,))


def test_numbers_too_large_to_be_averaged_are_missing_and_said_to_be_no_matter_of_retrying() -> None:
    """All that is read from a series and averaged on the way stays a number, or becomes one that is not finite."""
    rows = [row("bn", seed, test__loss=1e308 * (seed % 2)) for seed in range(6)]
    rows += [row("plain", seed, test__loss=1.0) for seed in range(7)]
    found = effects(Estimand(Metric("test/loss", higher_is_better=False)), results(rows), BN, PLAIN)
    assert (found.seeds, found.missing, found.unusable) == ((0, 2, 4), (1, 3, 5, 6), (1, 3, 5))
    said = enough_pairs(found).sentence
    assert said.startswith("1 of 7 seeds lack a result in an arm (seeds 6); retry those experiments. 3 of 7 seeds have")
    ratio = effects(Estimand(Metric("test/loss", higher_is_better=False), "log_ratio"), results(rows), BN, PLAIN)
    assert ratio.values == (math.log(1.0 / 1e308),) * 3
    assert results(rows).mean(BN, Metric("test/loss")) == pytest.approx(5e307)
    assert total([1e308, 1e308]) == math.inf
    assert math.isnan(total([math.inf, -math.inf]))
    assert MeanOverSteps("x").of([0, 1, 2], [1e308, 1e308, 1e308]) == math.inf
    assert Within("x", 0, 2, "mean").of([0, 1], [math.inf, -math.inf]) != 0


def test_times_that_never_came_stay_in_as_bounds() -> None:
    times = {
        0: (50, 400),  # both known
        1: (50, None),  # the ratio is at least 600 / 50
        2: (300, None),
        3: (None, 400),  # it is at most 400 / 600
        4: (None, None),
        5: (10, 400),  # there at the first look: at least 400 / 10
        6: (601, 500),  # after the budget is never
    }
    rows = [
        row(arm, seed, steps_to_target=pair[arm == "plain"]) for seed, pair in times.items() for arm in ("bn", "plain")
    ]
    estimand = Estimand(STEPS, "log_time_ratio", budget=600, first=10)
    found = effects(estimand, results(rows), BN, PLAIN)
    ratios = (400 / 50, 600 / 50, 600 / 300, 400 / 600, 1, 400 / 10, 500 / 600)
    assert found.values == pytest.approx([math.log(ratio) for ratio in ratios], abs=1e-15)
    assert found.bounds == Bounds(exact=1, lower=3, upper=2, neither=1)
    assert found.reaching["bn"] == Reaching(
        (50, 50, 300, 600, 600, 10, 600), (True, True, True, False, False, True, False)
    )


def test_a_run_that_diverges_is_censored_unless_it_was_there_before() -> None:
    rows = [row("bn", 0, steps_to_target=100), row("bn", 1, steps_to_target=100), row("bn", 2, steps_to_target=100)]
    rows += [row("plain", 0, diverged=True), row("plain", 1, diverged=True, steps_to_target=200), row("plain", 2)]
    found = effects(Estimand(STEPS, "log_time_ratio", budget=1000), results(rows), BN, PLAIN)
    assert found.values == pytest.approx((math.log(10), math.log(2)))
    assert (found.missing, found.bounds) == ((2,), Bounds(exact=1, lower=1))


def test_arms_are_compared_at_settings_of_their_own() -> None:
    rows = [{**row("bn", 0, test__accuracy=0.97), "setting": {"optimizer.lr": 1.0, "train.steps": 5}}]
    rows += [{**row("plain", 0, test__accuracy=0.95), "setting": {"train.steps": 5, "optimizer.lr": 0.1}}]
    rows += [{**row("plain", 0, test__accuracy=0.1), "setting": {"train.steps": 5, "optimizer.lr": 1.0}}]
    settings = [(("optimizer.lr", lr), ("train.steps", 5)) for lr in (1.0, 0.1)]
    found = effects(Estimand(ACCURACY), results(rows), Place("bn", settings[0]), Place("plain", settings[1]))
    assert found.values == pytest.approx((0.02,))


def test_tables_that_cannot_be_are_refused() -> None:
    with pytest.raises(ResultsUnfit, match="seed 0 twice"):
        effects(Estimand(ACCURACY), results([row("bn", 0), row("bn", 0)]), BN, PLAIN)
    rows = results([row("bn", 0, steps_to_target=0), row("plain", 0, steps_to_target=5)])
    with pytest.raises(ResultsUnfit, match="times are positive"):
        effects(Estimand(STEPS, "log_time_ratio", budget=9), rows, BN, PLAIN)
    with pytest.raises(ValueError, match="budget"):
        Estimand(STEPS, "log_time_ratio")
