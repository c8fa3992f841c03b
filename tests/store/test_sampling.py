"""Fewer points, the same picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.results.sampling import MIN_POINTS, Outline, Parts, sample
from store.results.segments import Steps, Values, segment_values, unpack

FLOATS = st.floats(width=64, allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, max_size=300), st.integers(MIN_POINTS, 120))
def test_a_sample_is_a_part_in_order_with_ends_and_extremes(values: list[float], max_points: int) -> None:
    steps, array = np.arange(1, len(values) + 1), np.array(values, dtype=np.float64)
    few_steps, few = sample(steps, array, max_points)
    assert len(few) <= max_points
    assert np.all(np.diff(few_steps) > 0)
    assert few.tobytes() == array[few_steps - 1].tobytes()
    if len(values):
        assert (few_steps[0], few_steps[-1]) == (1, len(values))
    finite = array[np.isfinite(array)]
    if len(finite):
        assert {finite.min(), finite.max()} <= set(few.tolist())
    lost = np.setdiff1d(steps[~np.isfinite(array)], few_steps)
    assert len(lost) == 0 or (~np.isfinite(array)).sum() > max_points // 2


def test_a_run_of_nothing_but_nan_is_thinned_too() -> None:
    steps, values = sample(np.arange(100_000), np.full(100_000, np.nan), 100)
    assert 40 <= len(steps) <= 100
    assert np.isnan(values).all()


def test_all_points_are_given_when_they_fit() -> None:
    assert len(sample(np.arange(100), np.arange(100.0), 100)[0]) == 100


def test_too_few_points_to_show_anything_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        sample(np.arange(100), np.arange(100.0), 9)


@given(st.lists(st.tuples(st.integers(1, 2**40), FLOATS), min_size=1, max_size=100))
def test_a_segment_unpacks_to_what_was_packed(points: list[tuple[int, float]]) -> None:
    steps = np.cumsum(np.array([step for step, _ in points], dtype=np.int64))
    values = np.array([value for _, value in points])
    packed = segment_values(steps, values)
    steps_back, values_back = unpack(packed["first_step"], packed["count"], packed["steps"], packed["points"])
    assert (steps_back == steps).all()
    assert values_back.tobytes() == values.tobytes()
    assert len(segment_values(np.arange(5, 105), np.zeros(100))["steps"]) == 0


def all_at_once(values: Values, max_points: int) -> Steps:
    """The places that stay, by the definition: a grid of buckets, and whatever is not finite."""
    nonfinite = np.flatnonzero(~np.isfinite(values))
    wanted = (max_points - len(nonfinite)) // 4
    if len(nonfinite) > max_points // 2:
        wanted = max_points // 5
        width = -(-len(values) // wanted)
        nonfinite = nonfinite[np.unique(nonfinite // width, return_index=True)[1]]
    width = -(-len(values) // wanted)
    starts = np.arange(0, len(values), width)
    padded = np.full(len(starts) * width, np.nan)
    padded[: len(values)] = values
    grid = padded.reshape(len(starts), width)
    finite = np.isfinite(grid)
    lowest = starts + np.where(finite, grid, np.inf).argmin(axis=1)
    highest = starts + np.where(finite, grid, -np.inf).argmax(axis=1)
    ends = np.minimum(starts + width, len(values)) - 1
    return np.unique(np.concatenate([starts, ends, lowest, highest, nonfinite]))


FEW = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.nan, np.inf, -np.inf])


@given(st.lists(FEW, min_size=40, max_size=300), st.integers(MIN_POINTS, 39), st.lists(st.integers(1, 40), min_size=8))
def test_an_outline_of_the_segments_it_wants_is_the_sample_of_all_points(
    points: list[float], max_points: int, cuts: list[int]
) -> None:
    values = np.array(points)
    ends = np.minimum(np.cumsum(cuts * 300), len(values))
    ends = ends[: int(np.searchsorted(ends, len(values))) + 1]
    slices = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    facts = [segment_values(np.arange(start, end), values[start:end]) for start, end in slices]
    columns = {name: np.array([fact[name] for fact in facts]) for name in ("count", "minimum", "maximum", "nonfinite")}
    parts = Parts(columns["count"], columns["minimum"], columns["maximum"], columns["nonfinite"])
    outline = Outline(len(values), int(parts.nonfinite.sum()), max_points)
    for place in outline.wanted(parts):
        start, end = slices[place]
        outline.add(start, np.arange(start, end), values[start:end])
    expected = all_at_once(values, max_points)
    steps, few = outline.points()
    assert steps.tolist() == expected.tolist()
    assert few.tobytes() == values[expected].tobytes()
    assert sample(np.arange(len(values)), values, max_points)[0].tolist() == expected.tolist()


def test_ten_points_of_many_segments_want_a_few_of_them() -> None:
    counts = np.full(1000, 100)
    parts = Parts(counts, np.arange(1000.0), np.arange(1000.0), np.zeros(1000, dtype=np.int64))
    assert len(Outline(100_000, 0, 10).wanted(parts)) <= 2 * 4
