"""Fewer points, the same picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.results.sampling import MIN_POINTS, sample
from store.results.segments import segment_values, unpack

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
