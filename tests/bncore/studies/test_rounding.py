"""A mean of effects that is nothing but rounding is read as none, whatever it is that was measured."""

import math
from fractions import Fraction

import pytest

from bncore.studies.estimand import Estimand, computed, effects
from bncore.studies.judging import judge
from bncore.studies.margin import Interval, Margin, label
from bncore.studies.results import Metric, Place, Results, Run
from bncore.studies.verdict import Evidence, Words

TREATMENT, BASELINE = Place("bn"), Place("baseline")
WORDS = Words("Is it better?", "test accuracy", "bn", "baseline", "points", 100)


def judged(ours, theirs, scale="difference", margin=None, higher_is_better=True):
    """The verdict on pairs of these numbers."""
    estimand = Estimand(Metric("test/accuracy", higher_is_better), scale)
    runs = [
        Run(place.arm, seed, {"test/accuracy": value})
        for place, values in ((TREATMENT, ours), (BASELINE, theirs))
        for seed, value in enumerate(values)
    ]
    found = effects(estimand, Results(tuple(runs)), TREATMENT, BASELINE)
    return judge(Evidence("it", WORDS, estimand, margin or Margin("superiority", 0.01), found))


def test_gains_and_losses_that_cancel_are_no_effect() -> None:
    steps, right = (-1, -1, 0, 1, 0, 1), (91, 92, 90, 92, 91, 93)
    exact = sum(Fraction(step, 96) for step in steps) / len(steps)
    ours = [(count + step) / 96 for count, step in zip(right, steps, strict=True)]
    verdict = judged(ours, [count / 96 for count in right])
    assert exact == 0 != verdict.estimated.effect, "the case is one where rounding leaves something"
    assert verdict.estimated.shown["effect"] == 0
    assert "test accuracy is as high with bn as with baseline (95 % interval -" in verdict.sentence
    assert "e-" not in verdict.sentence


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_what_differs_in_its_last_digit_is_no_effect_and_not_the_other_way_round(higher_is_better: bool) -> None:
    one, other = (0.3, 0.1 + 0.2) if higher_is_better else (0.1 + 0.2, 0.3)
    assert one != other
    verdict = judged([one] * 6, [other] * 6, higher_is_better=higher_is_better)
    assert verdict.estimated.effect < 0
    assert [verdict.estimated.shown[name] for name in ("effect", "low", "high")] == [0, 0, 0]
    assert (verdict.outcome, verdict.label) == ("does_not_hold", "equivalent")
    assert "as high with bn as with baseline (95 % interval 0 to 0;" in verdict.sentence


def test_a_ratio_but_for_rounding_is_one() -> None:
    ours, theirs = [0.3 * (k + 1) for k in range(6)], [(0.1 + 0.2) * (k + 1) for k in range(6)]
    verdict = judged(ours, theirs, "log_ratio", Margin("superiority", math.log(2)))
    assert verdict.estimated.effect != 0
    assert [verdict.estimated.shown[name] for name in ("effect", "low", "high")] == [1, 1, 1]


def test_a_small_effect_stays_one() -> None:
    """However small: it is what was measured that it is small beside."""
    for size in (1.0, 1e-9):
        ours = [size * (1 + 1e-9 * (k + 1)) for k in range(6)]
        verdict = judged(ours, [size] * 6)
        assert verdict.estimated.shown["effect"] == pytest.approx(100 * size * 3.5e-9, rel=1e-6)
        assert "higher with bn than with baseline" in verdict.sentence
    tiny = judge(
        Evidence("it", WORDS, Estimand(Metric("m")), Margin("superiority", 1e-30), computed(range(6), [1e-30] * 6))
    )
    assert tiny.estimated.shown["effect"] == pytest.approx(1e-28)


def test_below_nothing_by_rounding_is_not_contradicted() -> None:
    margin = Margin("superiority", 0.01)
    assert label(margin, "does_not_hold", Interval(-1e-3, -1e-16)) == "equivalent"
    assert label(margin, "does_not_hold", Interval(-1e-3, -1e-6)) == "contradicted"
