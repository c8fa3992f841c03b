"""Intervals and tests against statsmodels, enumeration, and distributions that are known."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from bncore.studies.estimand import Reaching
from bncore.studies.intervals import (
    bootstrap_interval,
    p_of_decision,
    p_of_no_effect,
    sign_flip_p,
    t_interval,
)
from bncore.studies.margin import Interval, Margin, decided
from bncore.studies.predictions import mcnemar
from bncore.studies.reports import holm
from bncore.studies.times import times

EFFECTS = (0.8, 1.9, -0.4, 2.2, 1.1, 0.3, 1.6)


@pytest.mark.parametrize("level", [0.05, 0.031])
def test_the_interval_is_that_of_the_paired_t_test(level: float) -> None:
    found = t_interval(EFFECTS, level)
    assert (found.low, found.high) == pytest.approx(DescrStatsW(EFFECTS).tconfint_mean(level), abs=1e-12)
    assert p_of_no_effect(EFFECTS) == pytest.approx(DescrStatsW(EFFECTS).ttest_mean(0)[1], abs=1e-12)


def test_an_effect_without_spread_is_a_point() -> None:
    assert t_interval((0.5,) * 6, 0.05) == Interval(0.5, 0.5)
    assert (p_of_no_effect((0.5,) * 6), p_of_no_effect((0.0,) * 6)) == (0.0, 1.0)
    assert sign_flip_p((0.5,) * 6) == 2 / 2**6
    assert sign_flip_p((0.0,) * 6) == 1.0
    for one in (0.9581023713299286, 1 / 3, 0.1):
        assert all(found.low == found.high for n in range(2, 40) if (found := t_interval((one,) * n, 0.05)))


@pytest.mark.parametrize(("points", "of"), [(1, 100), (5, 1000), (10, 597)])
def test_an_effect_of_exactly_the_margin_decides_nothing_however_it_was_rounded(points: int, of: int) -> None:
    """.96 - .95 is more than .01, and .36 - .35 is less: of accuracies that differ by the margin in every seed."""
    ways = set()
    for right in range(of - points):
        effects = ((right + points) / of - right / of,) * 6
        ways.add(math.copysign(effects[0] != points / of, effects[0] - points / of))
        for sign, kind in ((1, "superiority"), (-1, "non_inferiority"), (1, "equality"), (-1, "equality")):
            signed, margin = tuple(sign * x for x in effects), Margin(kind, points / of)
            assert decided(margin, t_interval(signed, 0.05)) == "inconclusive"
            assert p_of_decision(signed, margin) == 1.0
    assert ways >= {-1.0, 1.0}


def test_the_smallest_p_is_a_number_too() -> None:
    """As far above the margin as another sample is below it: both tails, each by itself."""
    above, below = ([1 + sign * (0.5 + k * 1e-4) for k in range(12)] for sign in (1, -1))
    p = p_of_decision(above, Margin("superiority", 1.0))
    assert 0 < p < 1e-16
    assert p == pytest.approx(DescrStatsW(above).ttest_mean(1.0)[1], rel=1e-6)
    for margin, effects in ((Margin("superiority", 1.0), below), (Margin("equality", 1.0), above)):
        assert p_of_decision(effects, margin) == pytest.approx(p, rel=1e-6)
    tiny = [x * 2**-600 for x in EFFECTS]
    assert p_of_no_effect(tiny) == p_of_no_effect(EFFECTS)


def test_p_of_equality_is_that_of_two_one_sided_tests() -> None:
    theirs = ttost_paired(np.array(EFFECTS), np.zeros(7), -2.0, 2.0)[0]
    assert p_of_decision(EFFECTS, Margin("equality", 2.0)) == pytest.approx(2 * theirs, abs=1e-12)
    shifted = tuple(x + 5 for x in EFFECTS)
    assert p_of_decision(shifted, Margin("equality", 2.0, around=5.0)) == pytest.approx(2 * theirs, abs=1e-12)
    # Beyond the margin: "not equal", by the test against the nearer end.
    outside = 2 * DescrStatsW(shifted).ttest_mean(2.0, alternative="larger")[1]
    assert p_of_decision(shifted, Margin("equality", 2.0)) == pytest.approx(outside, abs=1e-12)


def test_p_of_superiority_is_of_the_threshold_on_either_side() -> None:
    for kind, threshold in (("superiority", 0.5), ("non_inferiority", -0.5)):
        theirs = DescrStatsW(EFFECTS).ttest_mean(threshold)[1]
        assert p_of_decision(EFFECTS, Margin(kind, 0.5)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    "margin", [Margin("superiority", 0.4), Margin("non_inferiority", 0.4), Margin("equality", 0.9, around=0.2)]
)
def test_p_is_below_a_level_exactly_where_the_interval_of_that_level_decides(margin: Margin) -> None:
    random = np.random.default_rng(3)
    outcomes = set()
    for mean in random.uniform(-2, 2, 60):
        effects = random.normal(mean, 0.5, 8).tolist()
        p = p_of_decision(effects, margin)
        for level in (p * 0.999, p * 1.001):
            outcome = decided(margin, t_interval(effects, min(level, 1.0)))
            assert (outcome != "inconclusive") == (level > p)
            outcomes.add(outcome)
    assert outcomes == {"holds", "does_not_hold", "inconclusive"}


def test_signs_are_counted_as_by_enumeration() -> None:
    # Tenths are not binary: sums that are equal on paper differ by rounding.
    tenths = (8, 19, -4, 22, 11, 3, 16, -1)
    seen = abs(sum(tenths))
    sums = [
        abs(sum(x * s for x, s in zip(tenths, signs, strict=True))) for signs in itertools.product((1, -1), repeat=8)
    ]
    expected = Fraction(sum(total >= seen for total in sums), 2**8)
    assert sign_flip_p([x / 10 for x in tenths]) == float(expected)
    assert sign_flip_p([-x / 10 for x in reversed(tenths)]) == float(expected)


@pytest.mark.parametrize(("n", "positive", "error"), [(20, 15, 0.0), (40, 27, 4 * 0.0006)])
def test_signs_of_equal_sizes_are_binomial_exactly_or_drawn(n: int, positive: int, error: float) -> None:
    expected = stats.binomtest(positive, n).pvalue
    p = sign_flip_p([0.3] * positive + [-0.3] * (n - positive))
    assert p == pytest.approx(expected, abs=error + 1e-12)
    assert p == sign_flip_p([0.3] * positive + [-0.3] * (n - positive))


def test_the_bootstrap_of_two_values_is_binomial() -> None:
    values = [1.0] * 4 + [0.0] * 8
    found = bootstrap_interval(values, 0.05)
    assert found is not None
    expected = stats.binom.ppf((0.025, 0.975), 12, 4 / 12) / 12
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert bootstrap_interval(values[:9], 0.05) is None


def test_medians_are_those_of_kaplan_and_meier() -> None:
    when = (50.0, 75.0, 75.0, 100.0, 200.0, 200.0, 250.0, 300.0)
    there = (True, True, False, True, False, True, True, False)
    found = times(Reaching(when, there))
    # At risk 8, 7, 5, 4, 2: the curve crosses one half where the product does.
    share, curve = Fraction(1), {}
    for time, at_risk in ((50, 8), (75, 7), (100, 5), (200, 4), (250, 2)):
        share *= Fraction(at_risk - 1, at_risk)
        curve[time] = share
    assert found.median == min(time for time, left in curve.items() if left <= Fraction(1, 2)) == 200
    assert (found.seeds, found.reached, found.fraction_reached) == (8, 5, 5 / 8)
    # One half to the digit is reached, and fewer than half never are.
    assert times(Reaching((10, 20, 30, 40), (True, True, False, False))).median == 20
    assert times(Reaching((10, 40, 40, 40), (True, False, False, False))).median is None
    assert times(Reaching((40, 40), (False, False))).median is None


def test_disagreements_and_many_questions_as_statsmodels_counts_them() -> None:
    right = np.random.default_rng(0).random((2, 3, 50)) < [[[0.9]], [[0.8]]]
    found = mcnemar(right[0], right[1])
    table = [[int(np.sum((right[0] == a) & (right[1] == b))) for b in (True, False)] for a in (True, False)]
    assert (found.only_treatment, found.only_baseline) == (table[0][1], table[1][0])
    assert found.p == pytest.approx(mcnemar_of_statsmodels(table, exact=True).pvalue, abs=1e-12)
    p = [0.01, 0.04, 0.03, 0.2, 0.005, 0.03]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert holm([]) == []
    assert math.isclose(mcnemar(right[0], right[0]).p, 1.0)
