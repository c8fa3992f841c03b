"""Looks, power and seeds to come: against other integrations, statsmodels, and drawing."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

from bncore.studies.intervals import mean_and_error, t_interval
from bncore.studies.looks import LookRefused, Looks, level, overall_p, spent
from bncore.studies.margin import Margin, decided
from bncore.studies.power import extra_seeds, power


@pytest.mark.parametrize(("most", "taken"), [(20, (10, 20)), (40, (6, 17, 40)), (1000, (10, 11, 12))])
def test_looks_together_err_as_often_as_was_spent(most: int, taken: tuple[int, ...]) -> None:
    levels = [level(Looks(most, taken[: k + 1])) for k in range(len(taken))]
    bounds = stats.norm.isf(np.array(levels) / 2)
    # Means of n and m pairs are correlated by sqrt(n / m).
    n = np.array(taken)
    correlation = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    normal = stats.multivariate_normal(cov=correlation, abseps=1e-8, releps=1e-8, maxpts=10**5, seed=0)
    inside = normal.cdf(bounds, lower_limit=-bounds)
    assert 1 - inside == pytest.approx(spent(taken[-1] / most), abs=1e-5)


def test_one_look_for_all_costs_nothing_and_the_last_spends_all() -> None:
    assert level(Looks(10).at(10)) == pytest.approx(0.05, abs=1e-12)
    assert spent(1.0) == pytest.approx(0.05, abs=1e-15)
    first = level(Looks(20).at(10))
    # As much as ln(1 + (e - 1) / 2) of 5 %.
    assert first == pytest.approx(0.05 * math.log((1 + math.e) / 2), abs=1e-12)
    # Boundaries like Pocock's: near the one level that two equal looks may both have.
    both = stats.multivariate_normal(cov=[[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]], abseps=1e-8)
    pocock = 2.1783
    assert 1 - both.cdf([pocock] * 2, lower_limit=[-pocock] * 2) == pytest.approx(0.05, abs=2e-5)
    for nominal in (first, level(Looks(20, (10, 20)))):
        assert nominal == pytest.approx(2 * stats.norm.sf(pocock), rel=0.06)


def test_looking_again_at_the_same_is_no_other_look() -> None:
    once = Looks(20).at(10)
    assert once.at(10) == once
    assert once.at(15).taken == (10, 15)
    for looks, pairs in ((once, 9), (once, 21)):
        with pytest.raises(LookRefused):
            looks.at(pairs)


@pytest.mark.parametrize("looks", [Looks(20, (10,)), Looks(20, (10, 14)), Looks(30, (6, 12, 30))])
def test_p_in_all_looks_is_below_five_percent_where_the_interval_decides(looks: Looks) -> None:
    nominal = level(looks)
    assert overall_p(nominal, looks) == pytest.approx(0.05, abs=1e-9)
    assert overall_p(nominal * 0.99, looks) < 0.05 < overall_p(nominal * 1.01, looks)
    # What would just be decided with one in a hundred.
    assert overall_p(level(looks, 0.01), looks) == pytest.approx(0.01, abs=1e-9)
    assert (overall_p(0.0, looks), overall_p(1.0, looks)) == (pytest.approx(0, abs=1e-11), 1.0)


def test_power_is_that_of_the_t_test_at_the_margin() -> None:
    theirs = TTestPower().power(0.5 / 0.7, nobs=10, alpha=0.025, alternative="larger")
    assert power(10, 0.7, Margin("superiority", 0.5), 0.05) == pytest.approx(theirs, abs=1e-9)
    assert power(10, 0.7, Margin("non_inferiority", 0.5), 0.05) == pytest.approx(theirs, abs=1e-9)
    # Seeds that differ by rounding alone: sure, and a number.
    assert [power(10, sd, Margin("superiority", 0.01), 0.05) for sd in (1e-9, 1e-17, 1e-300, 0.0)] == [1.0] * 4


def test_power_of_equality_is_how_often_two_one_sided_tests_reject() -> None:
    n, sd, epsilon, level_ = 10, 0.7, 0.8, 0.05
    critical = stats.t.isf(level_ / 2, n - 1)

    def inside(sample_sd: float) -> float:
        room = (epsilon - critical * sample_sd / math.sqrt(n)) * math.sqrt(n) / sd
        # The density of the sample's sd, from that of chi.
        density = stats.chi.pdf(sample_sd * math.sqrt(n - 1) / sd, n - 1) * math.sqrt(n - 1) / sd
        return max(0.0, 2 * stats.norm.cdf(room) - 1) * density

    expected, _ = integrate.quad(inside, 0, epsilon * math.sqrt(n) / critical)
    assert power(n, sd, Margin("equality", epsilon), level_) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("margin", [Margin("superiority", 0.5), Margin("equality", 1.2)])
def test_so_many_more_seeds_would_decide_four_times_in_five(margin: Margin) -> None:
    effects = tuple(0.9 + 1.1 * x for x in stats.norm.ppf((np.arange(8) + 0.5) / 8))
    looks = Looks(400, (8,))
    more = extra_seeds(effects, margin, looks)
    assert more is not None
    mean, error = mean_and_error(effects)
    sd = error * math.sqrt(8)
    # What is to come, drawn: a mean that is likely by what was seen, then seeds around it; their spread as it was.
    random = np.random.default_rng(1)
    truth = mean + error * random.standard_t(7, size=20_000)

    def deciding(m: int) -> float:
        new = truth + sd / math.sqrt(m) * random.standard_normal(20_000)
        means = (8 * mean + m * new) / (8 + m)
        reach = stats.t.isf(level(looks.at(8 + m)) / 2, 7 + m) * sd / math.sqrt(8 + m)
        low, high = means - reach, means + reach
        if margin.kind == "superiority":
            return float(np.mean((low > 0.5) | (high < 0.5)))
        return float(np.mean(((low > -1.2) & (high < 1.2)) | (low > 1.2) | (high < -1.2)))

    assert deciding(more) > 0.8 - 0.03
    assert deciding(max(1, int(0.7 * more))) < 0.8
    assert extra_seeds(effects, margin, Looks(8 + more // 2, (8,))) is None


def test_a_study_that_is_looked_at_until_it_says_yes_does_so_in_five_of_a_hundred() -> None:
    random = np.random.default_rng(7)
    studies, wrong, missed = 2000, 0, 0
    looks = [Looks(24, (8, 12, 18, 24)[: k + 1]) for k in range(4)]
    levels = [level(look) for look in looks]
    for effects in random.standard_normal((studies, 24)):
        intervals = [t_interval(effects[: look.taken[-1]], at) for look, at in zip(looks, levels, strict=True)]
        missed += any(not interval.low < 0 < interval.high for interval in intervals)
        wrong += any(decided(Margin("superiority", 1e-9), interval) == "holds" for interval in intervals)
    # 5 % and 2.5 % +- 3 standard errors.
    assert missed / studies == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / studies))
    assert wrong / studies == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / studies))
