"""Sums of whatever runs have recorded: numbers so large that no float holds what they add up to are among them.

Invariant: exactly rounded, as `math.fsum`, wherever that has an answer, so that the order of rows changes nothing;
where it has none, not finite instead of an error.
"""

import math
from collections.abc import Iterable


def total(values: Iterable[float]) -> float:
    """The sum; inf or NaN where it overflows, or where the values themselves are not finite."""
    values = list(values)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)
