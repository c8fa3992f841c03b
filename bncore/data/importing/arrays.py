"""Arrays of a data set in the making: `.npy` files (format 1.0, C order), written and read in pieces.

Nothing is mapped: what has been written or read costs no memory of this process, however large the file.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bncore.data.importing import bounds
from bncore.data.importing.streams import Interrupted

Array = NDArray[Any]


class ArrayFile:
    """One array on the disk, whose number of rows is known before the first is written.

    `check` is called for every piece, and may raise: so an import can be broken off.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...], check: Callable[[], None]) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self._check = check
        self._row_bytes = self.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._next = 0
        self._filled = 0
        header = _header(self.dtype, shape)
        self._data_at = len(header)
        self._file = path.open("w+b")
        self._file.write(header)
        # Rows may come in any order.
        self._file.truncate(self.size)

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._data_at + self._row_bytes * self.shape[0]

    @property
    def rows_at_once(self) -> int:
        """As many as make a piece."""
        return max(1, bounds.PIECE_BYTES // max(1, self._row_bytes))

    @property
    def is_whole(self) -> bool:
        """Whether as many rows have been written as there are to be."""
        return self._filled >= self.shape[0]

    def append(self, rows: Array) -> None:
        """Write the next rows (k, ...)."""
        self.put(self._next, rows)
        self._next += len(rows)

    def put(self, first: int, rows: Array) -> None:
        """Write rows (k, ...) from number `first` on."""
        self._check()
        assert rows.shape[1:] == self.shape[1:], (rows.shape, self.shape)
        assert first + len(rows) <= self.shape[0], (first, len(rows), self.shape)
        self._file.seek(self._data_at + first * self._row_bytes)
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self._filled += len(rows)

    def pieces(self, rows: int | None = None) -> Iterator[tuple[int, Array]]:
        """The first row's number and the rows (k, ...), piece by piece."""
        at_once = rows or self.rows_at_once
        for first in range(0, self.shape[0], at_once):
            self._check()
            yield first, self.rows(first, min(at_once, self.shape[0] - first))

    def rows(self, first: int, count: int) -> Array:
        """Rows (count, ...) from number `first` on, which may be written to."""
        self._file.seek(self._data_at + first * self._row_bytes)
        rows = np.empty((count, *self.shape[1:]), dtype=self.dtype)
        wanted = rows.nbytes
        if wanted and self._file.readinto(rows.reshape(-1).view(np.uint8).data) != wanted:
            raise OSError(f"{self.path.name} is shorter than what was written")
        return rows

    def finish(self) -> str:
        """Have all of it on the disk and close it; its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        digest = hashlib.sha256()
        while piece := self._file.read(bounds.PIECE_BYTES):
            self._check()
            digest.update(piece)
        self.close()
        return digest.hexdigest()

    def close(self) -> None:
        """Let go of the file, whole or not."""
        self._file.close()


def stop_check(stop_asked: Callable[[], bool]) -> Callable[[], None]:
    """Raises `Interrupted` once `stop_asked` says yes."""

    def check() -> None:
        if stop_asked():
            raise Interrupted

    return check


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()
