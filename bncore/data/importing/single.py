"""Numbers become single precision, which is all that a network sees of them.

Invariant: a whole number that is another one afterwards is said; a number too large for it becomes infinite, and is
refused or imputed later.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bncore.data.importing.arrays import Array

_EXACT = 2.0**24
"""Up to here single precision has every whole number."""
_EXACT_IN_DOUBLE = 2.0**53
"""From here on whole numbers may have been rounded before they came here."""


def to_single(values: Array, what: str, note: Callable[[str], None]) -> NDArray[np.float32]:
    """The same numbers in single precision; `note` is told of `what` if whole numbers among them are rounded."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if values.dtype.itemsize <= 2 or values.dtype == np.float32:
        return single
    size = np.abs(single)
    if (size >= _EXACT).any():
        large, kept = values[size >= _EXACT].astype(np.float64), single[size >= _EXACT]
        is_whole = np.isfinite(large) & (large == np.rint(large))
        if (is_whole & ((kept != large) | (np.abs(large) >= _EXACT_IN_DOUBLE))).any():
            note(f"{what} has whole numbers beyond 2^24, which are rounded to single precision.")
    return single
