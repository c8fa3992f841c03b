"""Mean and deviation of a few numbers, of whatever size.

Invariant: exactly rounded sums (`math.fsum`), so that the order changes nothing; what has a mean and a deviation that
a float holds gets them, where sums or squares would overflow or vanish, too; equal numbers have no deviation.
"""

import math
from collections.abc import Sequence

_LARGE, _SMALL = 1e100, 1e-100
_UNIT = 2.0**600


def mean(values: Sequence[float]) -> float:
    """Of at least one finite number."""
    unit = _unit(values)
    return math.fsum(_in(unit, values)) / len(values) * unit


def sd(values: Sequence[float]) -> float:
    """The deviation of a sample (n - 1 degrees of freedom) of at least two finite numbers."""
    unit = _unit(values)
    return math.sqrt(_squares(_in(unit, values)) / (len(values) - 1)) * unit


def standard_error(values: Sequence[float]) -> float:
    """That of the mean of at least two finite numbers."""
    unit, n = _unit(values), len(values)
    return math.sqrt(_squares(_in(unit, values)) / (n - 1) / n) * unit


def _squares(values: Sequence[float]) -> float:
    """The sum of squared distances from the mean."""
    if min(values) == max(values):
        # Their mean may differ from them by rounding.
        return 0.0
    middle = math.fsum(values) / len(values)
    return math.fsum((value - middle) ** 2 for value in values)


def _unit(values: Sequence[float]) -> float:
    """A power of two, which costs no bit, in units of which sums and squares neither overflow nor vanish."""
    largest = max(map(abs, values))
    if largest > _LARGE:
        return _UNIT
    return 1 / _UNIT if 0 < largest < _SMALL else 1.0


def _in(unit: float, values: Sequence[float]) -> Sequence[float]:
    return values if unit == 1.0 else [value / unit for value in values]
