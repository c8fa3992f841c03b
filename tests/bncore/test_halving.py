"""Successive halving as a pure function, against one that is written out by hand."""

import math
import sys
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncore.halving import LOST, MEASURED, UNKNOWN, contender, ranked
from bncore.spec.sweep import PruneSpec, Rung, pruned_steps

VALUES = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(-3, 3).map(lambda n: n / 4))
POINTS = st.lists(st.tuples(st.lists(VALUES, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=12)


def by_hand(points: list[Any], seeds: int, kept: int, higher: bool) -> list[int]:
    """Of each point how many are before it; the first few are kept."""
    means: list[Any] = []
    for values, is_known in points:
        if not is_known or len(values) != seeds:
            means.append(("unknown", None))
        elif any(value is None or math.isnan(value) or math.isinf(value) for value in values):
            means.append(("lost", None))
        else:
            means.append(("measured", sum(map(Fraction, values)) / seeds))
    classes = ["measured", "lost", "unknown"]

    def is_before(one: int, other: int) -> bool:
        (of, mean), (of_other, other_mean) = means[one], means[other]
        if of != of_other:
            return classes.index(of) < classes.index(of_other)
        if mean != other_mean:
            return bool(mean > other_mean) if higher else bool(mean < other_mean)
        return one < other

    places = [sum(is_before(other, one) for other in range(len(points)) if other != one) for one in range(len(points))]
    return [one for one in range(len(points)) if places[one] < kept]


@given(points=POINTS, seeds=st.integers(1, 3), kept=st.integers(0, 12), higher=st.booleans(), order=st.randoms())
def test_those_stay_that_fewest_are_before_whatever_the_order(
    points: Any, seeds: int, kept: int, higher: bool, order: Any
) -> None:
    shuffled = []
    for number, (values, is_known) in enumerate(points):
        mixed = list(values)
        order.shuffle(mixed)
        shuffled.append(contender(number, seeds, mixed, is_known=is_known))
    order.shuffle(shuffled)
    found = ranked(shuffled, kept, higher_is_better=higher)
    assert [one.rank for one in found] == list(range(1, len(points) + 1))
    assert sorted(one.point for one in found if one.kept) == by_hand(points, seeds, kept, higher)


def test_a_mean_is_over_all_seeds_and_none_is_made_up() -> None:
    assert contender(0, 2, [0.25, 0.75], is_known=True).mean == 0.5
    assert contender(0, 2, [0.25, None], is_known=True).outcome == LOST
    assert contender(0, 2, [0.25, math.inf], is_known=True).outcome == LOST
    assert contender(0, 2, [0.25], is_known=True).outcome == UNKNOWN
    assert contender(0, 2, [0.25, 0.75], is_known=False).outcome == UNKNOWN
    huge = contender(0, 2, [1e308, 1e308], is_known=True)
    assert (huge.outcome, huge.mean) == (MEASURED, 1e308)
    # A third of it three times is more than any float.
    largest = contender(0, 3, [sys.float_info.max] * 3, is_known=True)
    assert ranked([largest], 1, higher_is_better=False)[0].mean == pytest.approx(sys.float_info.max)


@given(points=st.integers(2, 500), factor=st.integers(2, 4), first=st.integers(1, 50), budget=st.integers(51, 5000))
def test_rungs_are_those_of_the_paper(points: int, factor: int, first: int, budget: int) -> None:
    """Of n points n // eta^k come to rung k, at first_steps eta^k, until one is left or the budget is reached."""
    prune = PruneSpec(metric="validation/loss", first_steps=first, factor=factor)
    found = prune.rungs(points, budget)
    for number, rung in enumerate(found):
        assert rung.step == first * factor**number < budget
        assert rung.points == max(1, points // factor**number) >= 2
        assert rung.kept == max(1, points // factor ** (number + 1))
    left = found[-1].kept
    assert left == 1 or first * factor ** len(found) >= budget
    # Each point by itself: up to where it is ended.
    ends = [rung.step for rung in found for _ in range(rung.points - rung.kept)] + [budget] * left
    assert (len(ends), pruned_steps(found, points, budget)) == (points, sum(ends))


def test_there_may_be_no_rung() -> None:
    prune = PruneSpec(metric="validation/loss", first_steps=10)
    assert (prune.rungs(9, 10), pruned_steps([], 9, 10)) == ([], 90)
    assert prune.rungs(9, 11) == [Rung(10, 9, 3)]


@pytest.mark.parametrize(("within", "arms", "brackets"), [
    ("arm", ["a", "b"], ["a", "b"]), ("arm", [], [None]), ("sweep", ["a", "b"], [None]),
])  # fmt: skip
def test_arms_are_ranked_by_themselves_unless_said_otherwise(within: Any, arms: list[str], brackets: Any) -> None:
    prune = PruneSpec(metric="validation/loss", first_steps=10, within=within)
    assert prune.brackets(arms) == brackets
    assert {prune.bracket_of(arm) for arm in (arms or [None])} == set(brackets)
