"""Large pages for the memory of a process that forks: a fork copies a table entry a page, and its end gives each back.

Linux from 6.1 on; elsewhere nothing happens. A forked process that writes into a large page copies the small one that
it writes to.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_COLLAPSE = 25
"""`MADV_COLLAPSE`, for which the standard library has no name."""
_SIZE = 1 << 21


def collapse() -> None:
    """Have all that this process has allocated lie in large pages, as far as that goes."""
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        for start in _places():
            advise(ctypes.c_void_p(start), ctypes.c_size_t(_SIZE), _COLLAPSE)


def _places() -> Iterator[int]:
    """Where a large page could lie: of the heap and what belongs to no file, what is written to."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access, _, _, _, *name = line.split()
        if access == "rw-p" and name in ([], ["[heap]"]):
            start, end = (int(address, 16) for address in span.split("-"))
            yield from range(-(-start // _SIZE) * _SIZE, end // _SIZE * _SIZE, _SIZE)
