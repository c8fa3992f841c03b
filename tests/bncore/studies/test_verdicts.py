"""What a verdict says, for whom, and when it says nothing."""

import json
import math
import random

import numpy as np
import pytest
from scipy import stats

from bncore.studies.estimand import Bounds, Effects, Estimand, computed, effects
from bncore.studies.guards import Guard, target_reached
from bncore.studies.judging import judge
from bncore.studies.looks import LookRefused, Looks
from bncore.studies.margin import Interval, Margin, decided, label, one_sided
from bncore.studies.reports import report
from bncore.studies.results import Metric, Place, Results, Run
from bncore.studies.verdict import Disagreements, Evidence, Exact, Right, Verdict, Words, document

WORDS = Words("Is it better?", "test accuracy", "batch normalization", "none", "points", 100)
ACCURACY = Estimand(Metric("test/accuracy", when_diverged=0.1))
DELTA = Margin("superiority", 1.0)


def spread(mean: float, sd: float, n: int = 10) -> Effects:
    """n effects with exactly that mean and standard deviation."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return computed(range(n), (mean + sd * scores / scores.std(ddof=1)).tolist())


def asked(found: Effects, margin: Margin = DELTA, *guards: Guard, name: str = "it", words: Words = WORDS) -> Evidence:
    return Evidence(name, words, ACCURACY, margin, found, guards)


@pytest.mark.parametrize(
    ("margin", "low", "high", "expected"),
    [
        (DELTA, 1.1, 2, ("holds", None)),
        (DELTA, 0.5, 1.5, ("inconclusive", None)),
        (DELTA, -2, 0.9, ("does_not_hold", None)),
        (DELTA, -0.9, 0.9, ("does_not_hold", "equivalent")),
        (DELTA, -0.9, -0.1, ("does_not_hold", "contradicted")),
        (Margin("non_inferiority", 1.0), -0.9, 0.5, ("holds", None)),
        (Margin("non_inferiority", 1.0), -2, 0, ("inconclusive", None)),
        (Margin("non_inferiority", 1.0), -3, -1.1, ("does_not_hold", "contradicted")),
        (Margin("equality", 1.0), -0.9, 0.9, ("holds", "equivalent")),
        (Margin("equality", 1.0), -0.9, 1.1, ("inconclusive", None)),
        (Margin("equality", 1.0), 1.1, 1.2, ("does_not_hold", None)),
        (Margin("equality", 0.05, around=1.2), 1.16, 1.24, ("holds", "equivalent")),
        (Margin("equality", 0.05, around=1.2), 1.0, 1.1, ("does_not_hold", None)),
    ],
)
def test_an_interval_decides_on_one_side_of_the_margin(margin, low, high, expected) -> None:
    outcome = decided(margin, Interval(low, high))
    assert (outcome, label(margin, outcome, Interval(low, high))) == expected
    with pytest.raises(ValueError, match="positive"):
        Margin("superiority", 0.0)


def test_a_verdict_is_complete_and_can_be_read_out() -> None:
    found = computed(range(10), [x / 100 for x in spread(1.5, 0.4).values])
    verdict = judge(asked(found, Margin("superiority", 0.01)), Looks(20))
    level = 0.05 * math.log((1 + math.e) / 2)
    reach = stats.t.isf(level / 2, 9) * 0.004 / math.sqrt(10)
    assert verdict.outcome == "holds"
    assert verdict.estimated is not None
    assert (verdict.estimated.interval.low, verdict.estimated.interval.high) == pytest.approx(
        (0.015 - reach, 0.015 + reach)
    )
    assert (verdict.estimated.looks, verdict.estimated.most, verdict.estimated.extra_seeds) == ((10,), 20, None)
    # At the level of all looks: what one test would say, by what the first look was given.
    assert verdict.estimated.tests.decision == pytest.approx(
        2 * stats.t.sf(0.005 / (0.004 / math.sqrt(10)), 9) * 0.05 / level
    )
    assert verdict.estimated.tests.sign_flip == 2 / 2**10
    assert verdict.sentence == (
        "This holds: test accuracy is 1.5 points higher with batch normalization than with none "
        f"(95 % interval {100 * (0.015 - reach):.2f} to {100 * (0.015 + reach):.2f}; positive is better), "
        "over 10 seeds. "
        "A gain of more than 1 point was asked for."
    )
    right = Right(np.ones((10, 4), bool), np.ones((10, 4), bool))
    right.baseline[:6, 0] = False
    beside = judge(Evidence("it", WORDS, ACCURACY, DELTA, found, right=right)).disagreements
    assert beside == Disagreements(only_treatment=6, only_baseline=0, p=2 / 2**6)
    text = json.dumps(document(verdict), allow_nan=False)
    assert json.loads(text)["effects"]["values"] == list(found.values)
    assert text == json.dumps(document(judge(asked(found, Margin("superiority", 0.01)), Looks(20))))


def test_what_fails_a_guard_is_inconclusive_whatever_the_interval_says() -> None:
    failed = Guard("baseline_trains", False, "plain does not train.")
    verdict = judge(asked(spread(9, 1), DELTA, failed))
    assert (verdict.outcome, verdict.label, verdict.reasons) == ("inconclusive", "control_failed", (failed.sentence,))
    assert verdict.sentence.endswith("plain does not train.")
    few = judge(asked(spread(9, 1, n=5)))
    assert (few.outcome, few.label) == ("inconclusive", None)
    assert "fewer than 6" in few.reasons[0]
    lost = judge(asked(computed(range(11), [*spread(9, 1).values, None])))
    assert (lost.outcome, lost.label, lost.n) == ("inconclusive", None, 10)
    assert "seeds 10" in lost.reasons[0]
    one = judge(asked(computed([3], [9.0])))
    assert (one.outcome, one.estimated, one.n) == ("inconclusive", None, 1)
    json.dumps(document(one), allow_nan=False)


def test_what_stays_open_says_how_many_seeds_would_probably_decide() -> None:
    verdict = judge(asked(spread(2.2, 1.5)), Looks(40))
    assert verdict.outcome == "inconclusive"
    assert verdict.estimated is not None
    assert verdict.estimated.extra_seeds
    assert f"About {verdict.estimated.extra_seeds} more seeds would probably decide." in verdict.sentence
    # With them, had they been like those: decided.
    more = spread(2.2, 1.5, 10 + verdict.estimated.extra_seeds)
    assert judge(asked(more), Looks(40, verdict.estimated.looks)).outcome == "holds"
    hopeless = judge(asked(spread(1.1, 1.5)), Looks(12))
    assert hopeless.estimated is not None
    assert hopeless.estimated.extra_seeds is None
    assert hopeless.sentence.endswith("The 2 seeds more that it may have would probably not decide it.")
    with pytest.raises(LookRefused, match="40 pairs"):
        judge(asked(spread(2.2, 1.5, 41)), Looks(40, (10,)))


def test_bounds_conclude_only_on_their_own_side() -> None:
    """Steps to a target: (with the treatment, without it), None where it never came."""

    def told(*pairs: tuple[float | None, float | None], delta: float) -> Verdict:
        runs = [
            Run(arm, s, {"steps": t})
            for s, pair in enumerate(pairs)
            for arm, t in zip(("bn", "plain"), pair, strict=True)
        ]
        estimand = Estimand(Metric("steps", higher_is_better=False), "log_time_ratio", budget=1000)
        words = Words("Is it faster?", "steps to 90 %", "batch normalization", "none")
        found = effects(estimand, Results(tuple(runs)), Place("bn"), Place("plain"))
        guards = (target_reached(found),)
        return judge(Evidence("faster", words, estimand, Margin("superiority", math.log(delta)), found, guards))

    faster = [(100.0 + k, 400.0 + 9 * k) for k in range(6)]
    # The baseline never came in two seeds: at least 1000 steps are enough to conclude that it is slower ...
    sure = told(*faster, (90, None), (110, None), delta=1.5)
    assert sure.outcome == "holds"
    assert sure.sentence.startswith("This holds: batch normalization takes at least ")
    assert (sure.times["plain"].reached, sure.times["plain"].seeds, sure.times["bn"].median) == (6, 8, 102.0)
    # ... and not that it is less than 50 times slower.
    open_ = told(*faster, (90, None), (110, None), delta=50)
    assert (open_.outcome, open_.label) == ("inconclusive", None)
    assert "In 2 seeds the ratio is only known to be at least" in open_.reasons[0]
    known = told(*faster, delta=50)
    assert known.outcome == "does_not_hold"
    assert "batch normalization takes 4." in known.sentence
    # Where the treatment never came nothing is concluded for it.
    never = told(*[(10.0 + k, 900.0) for k in range(9)], (None, 900), delta=1.5)
    assert never.outcome == "inconclusive"
    assert "at most" in never.reasons[0]
    nobody = told(*[(None, None)] * 7, (5, 9), delta=1.5)
    assert (nobody.outcome, nobody.label) == ("inconclusive", "control_failed")
    assert "12% of the seeds with bn" in nobody.reasons[0]


@pytest.mark.parametrize(
    ("kind", "low", "high", "bounds", "expected"),
    [
        ("superiority", 1.1, 2, Bounds(8, lower=2), ("holds", None)),
        ("superiority", 1.1, 2, Bounds(8, upper=2), ("inconclusive", None)),
        ("superiority", 1.1, 2, Bounds(8, neither=2), ("holds", None)),
        ("superiority", -0.9, 0.9, Bounds(8, lower=2), ("inconclusive", None)),
        # At most that: too small, and how much smaller nobody knows.
        ("superiority", -0.9, 0.9, Bounds(8, upper=2), ("does_not_hold", None)),
        ("superiority", -0.9, -0.1, Bounds(8, upper=2), ("does_not_hold", "contradicted")),
        ("superiority", 0, 0, Bounds(neither=10), ("inconclusive", None)),
        ("superiority", -0.9, -0.1, Bounds(8, neither=2), ("does_not_hold", "contradicted")),
        ("non_inferiority", -0.5, 0.5, Bounds(8, neither=2), ("inconclusive", None)),
        ("non_inferiority", 0.1, 0.5, Bounds(8, neither=2), ("holds", None)),
        ("non_inferiority", -3, -2, Bounds(8, lower=2), ("inconclusive", None)),
        ("equality", -0.5, 0.5, Bounds(8, lower=2), ("inconclusive", None)),
        ("equality", -0.5, 0.5, Bounds(8, upper=2), ("inconclusive", None)),
        ("equality", 0, 0, Bounds(neither=10), ("inconclusive", None)),
        ("equality", -0.5, 0.5, Bounds(10), ("holds", "equivalent")),
        ("equality", 1.5, 2, Bounds(8, lower=2), ("does_not_hold", None)),
        ("equality", 1.5, 2, Bounds(8, upper=2), ("inconclusive", None)),
        ("equality", -2, -1.5, Bounds(8, upper=2), ("does_not_hold", None)),
        ("equality", -2, -1.5, Bounds(8, lower=2), ("inconclusive", None)),
    ],
)
def test_every_end_that_a_conclusion_rests_on_has_to_be_known(kind, low, high, bounds, expected) -> None:
    margin, interval = Margin(kind, 1.0), Interval(low, high)
    outcome = one_sided(decided(margin, interval), margin, interval, bounds)
    assert (outcome, label(margin, outcome, interval, bounds)) == expected


def test_who_was_there_at_the_first_look_in_both_arms_tells_nothing() -> None:
    """Every seed of either arm at the first of the looks: the ratio may be anything, and nothing is equal or small."""
    runs = Results(tuple(Run(arm, seed, {"steps": 50.0}) for arm in ("bn", "plain") for seed in range(8)))
    estimand = Estimand(Metric("steps", higher_is_better=False), "log_time_ratio", budget=1000, first=50)
    found = effects(estimand, runs, Place("bn"), Place("plain"))
    words = Words("Is it faster?", "steps to 90 %", "batch normalization", "none")
    for kind in ("superiority", "non_inferiority", "equality"):
        verdict = judge(Evidence("faster", words, estimand, Margin(kind, math.log(1.5)), found))
        assert (verdict.outcome, verdict.label) == ("inconclusive", None)
        assert "In 8 seeds nothing is known of the ratio" in verdict.reasons[0]
        assert verdict.reasons[0].endswith("more frequent looks.")
        assert "batch normalization takes as many steps to 90 % as none" in verdict.sentence


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1.0, "as large with batch normalization as with none"),
        (1.004, "as large with"),
        (2.0, "2 times larger with"),
        (0.5, "2 times smaller with"),
        (1e-320, "times smaller with"),
    ],
)
def test_a_ratio_is_read_out_as_one_says_it(ratio: float, said: str) -> None:
    found = computed(range(6), [math.log(ratio)] * 6)
    estimand = Estimand(Metric("test/accuracy"), "log_ratio")
    assert said in judge(Evidence("it", WORDS, estimand, DELTA, found)).sentence


def test_of_many_questions_some_are_decided_no_more() -> None:
    strong, weak, open_ = (judge(asked(spread(mean, 1), name=str(mean))) for mean in (9, 1.8, 1.2))
    assert (strong.outcome, weak.outcome, open_.outcome) == ("holds", "holds", "inconclusive")
    exact = judge(Exact("exact", WORDS, {"error": 1e-15}, 1e-9))
    found = report([strong, exact, open_, weak]).verdicts
    assert [verdict.outcome for verdict in found] == ["holds", "holds", "inconclusive", "inconclusive"]
    p = 2 * stats.t.sf(0.8 * math.sqrt(10), 9)
    assert found[3].estimated is not None
    assert found[3].estimated.tests.decision_holm == pytest.approx(2 * p)
    assert p < 0.05 < 2 * p
    assert (found[3].alone, found[0].alone) == ("holds", None)
    assert found[3].sentence.startswith("This stays open")
    assert report([weak]).verdicts[0].outcome == "holds"


@pytest.mark.parametrize(
    ("error", "expected"), [(9e-10, "holds"), (2e-9, "does_not_hold"), (math.nan, "does_not_hold")]
)
def test_what_theory_says_exactly_is_judged_exactly(error: float, expected: str) -> None:
    verdict = judge(Exact("exact", WORDS, {"output": 1e-16, "gradient": error}, 1e-9))
    assert (verdict.outcome, verdict.n) == (expected, 1)
    assert f"the largest of 2 errors is {error:.1e}" in verdict.sentence
    json.dumps(document(verdict), allow_nan=False)


def replace_decision(one: Verdict) -> Verdict:
    """As the only question of a report."""
    assert one.decision is not None
    return one.among(one.decision)


@pytest.mark.parametrize(("mean", "sd", "label"), [(-0.3, 0.4, "contradicted"), (0.3, 0.9, "equivalent")])
def test_what_is_said_beyond_an_outcome_holds_for_all_questions_at_once_or_is_not_said(mean, sd, label) -> None:
    """That it is the other way round, or no difference that matters, is no part of what Holm's procedure pays for."""
    one = judge(asked(spread(mean, sd), name="one"))
    assert (one.outcome, one.label) == ("does_not_hold", label)
    assert report([one]).verdicts[0] == replace_decision(one)
    others = [judge(asked(spread(9, 0.1), name=str(place))) for place in range(9)]
    found = report([one, *others]).verdicts[0]
    # Of ten questions an interval with a tenth of the error each.
    reach = stats.t.isf(0.005 / 2, 9) * sd / math.sqrt(10)
    assert mean + reach > 0
    expected = "equivalent" if max(abs(mean - reach), abs(mean + reach)) < 1 else None
    assert (found.outcome, found.label) == ("does_not_hold", expected)
    assert ("Taken by itself" in found.sentence) == (expected is None)
    # A clear one keeps it, and a loss beyond what was allowed is the other way round by its outcome.
    clear = judge(asked(spread(-3, 0.4), name="clear"))
    assert report([clear, *others]).verdicts[0].label == "contradicted"
    lost = judge(asked(spread(-1.3, 0.4), Margin("non_inferiority", 1.0), name="lost"))
    assert (lost.label, report([lost, *others[:1]]).verdicts[0].label) == ("contradicted", "contradicted")


def test_what_stays_open_says_nothing_beyond_that() -> None:
    one = judge(asked(spread(0.3, 0.85), name="one"))
    assert one.sentence.endswith("The difference is too small to matter.")
    found = report([one, *(judge(asked(spread(1.1, 1), name=str(place))) for place in range(4))]).verdicts[0]
    assert (found.outcome, found.alone, found.label) == ("inconclusive", "does_not_hold", None)
    assert "too small" not in found.sentence


def test_the_order_of_the_rows_changes_no_bit() -> None:
    random_ = np.random.default_rng(5)
    runs = [Run(arm, seed, {"test/accuracy": float(random_.random())}) for seed in range(12) for arm in ("bn", "plain")]
    texts = set()
    for order in range(4):
        found = Results(tuple(random.Random(order).sample(runs, len(runs))))
        verdict = judge(asked(effects(ACCURACY, found, Place("bn"), Place("plain"))), Looks(24))
        texts.add(json.dumps(document(verdict)))
    assert len(texts) == 1
