"""Means and deviations of numbers of any size, against exact fractions and against themselves in other units."""

import math
import random
import statistics

import pytest

from bncore import moments

VALUES = [0.1, 0.7, -1.3, 0.25, 2.0, 0.7]


@pytest.mark.parametrize("exponent", [-1000, -540, -330, 0, 330, 540, 1000])
def test_other_units_change_no_bit(exponent: int) -> None:
    """A power of two is exact, however large or small the squares become."""
    scaled = [math.ldexp(value, exponent) for value in VALUES]
    for measure, exact in ((moments.mean, statistics.mean(VALUES)), (moments.sd, statistics.stdev(VALUES))):
        assert measure(VALUES) == pytest.approx(exact, rel=1e-14)
        assert measure(scaled) == math.ldexp(measure(VALUES), exponent)
    error = statistics.stdev(VALUES) / math.sqrt(len(VALUES))
    assert moments.standard_error(VALUES) == pytest.approx(error, rel=1e-14)
    assert moments.standard_error(scaled) == math.ldexp(moments.standard_error(VALUES), exponent)


def test_equal_numbers_have_no_deviation_and_the_order_changes_no_bit() -> None:
    draw = random.Random(1)
    for n in range(2, 30):
        one = draw.random()
        # 0.1 + 0.1 + 0.1 is not 3 * 0.1: the mean may differ from all of them by rounding.
        assert (moments.sd([one] * n), moments.standard_error([one] * n)) == (0.0, 0.0)
        assert moments.mean([one] * n) == pytest.approx(one, rel=1e-15)
        many = [draw.gauss(0, 1) for _ in range(n)]
        mixed = draw.sample(many, n)
        assert (moments.mean(many), moments.sd(many)) == (moments.mean(mixed), moments.sd(mixed))


def test_the_largest_of_all_floats_have_a_mean() -> None:
    largest = math.ldexp(1 - 2**-53, 1024)
    for n in range(1, 8):
        assert moments.mean([largest] * n) == pytest.approx(largest, rel=3e-16)
