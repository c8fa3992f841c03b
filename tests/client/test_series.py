"""Metric series as arrays, thinned or whole."""

import numpy as np
import pytest

from client.series import MOST_POINTS, Series, decode_series, every_point


def test_numbers_that_json_cannot_hold_come_back_as_floats():
    answer = {
        "series": {"train/loss": {"steps": [1, 2, 3, 4], "values": [0.5, "NaN", "Infinity", "-Infinity"], "count": 4}}
    }
    series = decode_series(answer)["train/loss"]
    assert (series.steps.dtype, series.values.dtype) == (np.int64, np.float64)
    np.testing.assert_array_equal(series.values, [0.5, np.nan, np.inf, -np.inf])


def test_an_empty_series_has_the_same_types():
    series = decode_series({"series": {"x": {"steps": [], "values": [], "count": 0}}})["x"]
    assert (len(series), series.steps.dtype, series.values.dtype, series.complete) == (0, np.int64, np.float64, True)


@pytest.mark.parametrize("total", [1, MOST_POINTS, MOST_POINTS + 1, 3 * MOST_POINTS])
def test_a_series_longer_than_one_answer_comes_whole(total):
    steps = np.arange(5, 5 + total)
    whole = Series("train/loss", steps, steps * 0.5, count=total)
    sparse = Series("test/loss", steps[:1], steps[:1] * 1.0, count=1)
    asked = []

    def ask(first, last, most):
        asked.append((first, last))
        return {"train/loss": _within(whole, first, last, most), "test/loss": _within(sparse, first, last, most)}

    found = every_point(ask, 0, None)
    np.testing.assert_array_equal(found["train/loss"].steps, steps)
    np.testing.assert_array_equal(found["train/loss"].values, steps * 0.5)
    assert found["train/loss"].complete
    assert found["test/loss"].steps.tolist() == [5]
    assert len(asked) == 1 or len(asked) == 1 + -(-total // MOST_POINTS)


def _within(series, first, last, most):
    """What the server answers: the points of a range, thinned to the ends when they are too many."""
    keep = (series.steps >= first) & (series.steps <= (series.steps[-1] if last is None else last))
    steps, values = series.steps[keep], series.values[keep]
    count = len(steps)
    if count > most:
        steps, values = steps[[0, -1]], values[[0, -1]]
    return Series(series.key, steps, values, count)
