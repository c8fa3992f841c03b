"""Examples that are read as they are asked for: from a file, or from device memory where all of them have room.

Invariant: where they lie changes no bit and no order. Of a file nothing is mapped and nothing is kept: what a process
holds of it is a batch, and what the system's cache holds is not the process's.

Shapes: N examples of a part, M asked for, R rows of an array.
"""

import itertools
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bncore.data.dataset import Examples, InvalidData
from bncore.data.reading import Reading

CHUNK_BYTES = 1 << 18
"""Of what is read through from end to end."""


class FileRows:
    """An array (R, ...) in a file, in C order from byte `offset` on; a row is handed out on `device`.

    Raises `InvalidData` where the file ends early.
    """

    def __init__(
        self, path: Path, dtype: torch.dtype, shape: tuple[int, ...], offset: int, device: str | torch.device = "cpu"
    ) -> None:
        self._said = path, dtype, shape, offset
        self._device = torch.device(device)
        self.row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        if hasattr(os, "posix_fadvise"):
            # A batch is rows from anywhere: of what the system would read ahead, nothing would be used.
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def on(self, device: torch.device) -> "FileRows":
        """The same for another device."""
        return FileRows(*self._said, device)

    def take(self, numbers: Tensor) -> Tensor:
        """The rows of these numbers (M,), which lie on the CPU."""
        _, dtype, shape, _ = self._said
        asked = numbers.numpy()
        # Memory of its own for each batch: torch gives it to no other one before the copy from it is done.
        buffer = torch.empty(len(asked) * self.row_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        into = memoryview(buffer.numpy().data)
        bounds = [0, *(np.flatnonzero(np.diff(asked) != 1) + 1).tolist(), len(asked)]
        for start, end in itertools.pairwise(bounds):
            self._read(into[start * self.row_bytes : end * self.row_bytes], int(asked[start]) * self.row_bytes)
        return buffer.view(dtype).view(len(asked), *shape[1:]).to(self._device, non_blocking=True)

    def held(self, numbers: Tensor, device: torch.device) -> Tensor:
        """The rows of these numbers on `device`, read in pieces."""
        _, dtype, shape, _ = self._said
        rows = torch.empty(len(numbers), *shape[1:], dtype=dtype, device=device)
        piece = max(1, CHUNK_BYTES // self.row_bytes)
        for first in range(0, len(numbers), piece):
            rows[first : first + piece] = self.take(numbers[first : first + piece])
        return rows

    def _read(self, into: memoryview, place: int) -> None:
        path, _, _, offset = self._said
        while into:
            count = os.preadv(self._file, [into], offset + place)
            if count == 0:
                raise InvalidData(f"{path.name} ends before its last example")
            into, place = into[count:], place + count


@dataclass(frozen=True)
class StoredPart:
    """A part of a data set: some rows of arrays, the same of each of `inputs`, `targets` and maybe `lengths`."""

    rows: dict[str, FileRows]
    numbers: Tensor
    """(N,): which rows of the arrays are its examples, in their order."""
    reading: Reading
    kept: Examples | None = None
    """The rows of these numbers as they are stored, where they were read into memory."""

    @property
    def size(self) -> int:
        """N."""
        return len(self.numbers)

    @property
    def index_device(self) -> torch.device:
        """Where numbers of examples lie that are asked for."""
        return self.numbers.device

    @property
    def stored_bytes(self) -> int:
        """What the examples take as they are stored."""
        return self.size * sum(rows.row_bytes for rows in self.rows.values())

    def gather(self, index: Tensor) -> Examples:
        """The examples of these numbers (M,), on the device that the part is for."""
        numbers = self.numbers.index_select(0, index)
        stored = self._stored(numbers) if self.kept is None else self.kept.select(index)
        seen = self.reading(stored.inputs, numbers, stored.lengths)
        return Examples(seen, stored.targets, None if stored.lengths is None else stored.lengths.long())

    def slice(self, first: int, end: int) -> Examples:
        """Those from `first` up to `end`."""
        return self.gather(torch.arange(first, min(end, self.size), device=self.index_device))

    def select(self, index: Tensor) -> "StoredPart":
        """The part of it that these examples are."""
        return replace(self, numbers=self.numbers[index], kept=None if self.kept is None else self.kept.select(index))

    def all_targets(self) -> Tensor:
        """Of all examples, on the device that the part is for."""
        return self.rows["targets"].take(self.numbers) if self.kept is None else self.kept.targets

    def as_stored(self) -> Iterator[Examples]:
        """All examples in their order, in pieces of some `CHUNK_BYTES`, as they are stored."""
        if self.kept is not None:
            yield self.kept
            return
        for first, end in self.pieces():
            yield self._stored(self.numbers[first:end])

    def pieces(self) -> Iterator[tuple[int, int]]:
        """From and up to which example it is read, end to end."""
        step = max(1, CHUNK_BYTES // sum(rows.row_bytes for rows in self.rows.values()))
        return ((first, min(first + step, self.size)) for first in range(0, self.size, step))

    def placed(self, device: torch.device, *, held: bool) -> "StoredPart":
        """The same for `device`: read into its memory, or read as it is asked for."""
        reading = self.reading.to(device)
        if not held:
            return replace(self, rows={name: rows.on(device) for name, rows in self.rows.items()}, reading=reading)
        kept = {name: rows.held(self.numbers, device) for name, rows in self.rows.items()}
        return replace(self, numbers=self.numbers.to(device), reading=reading, kept=_examples(kept))

    def _stored(self, numbers: Tensor) -> Examples:
        return _examples({name: rows.take(numbers) for name, rows in self.rows.items()})


def _examples(arrays: dict[str, Tensor]) -> Examples:
    return Examples(arrays["inputs"], arrays["targets"], arrays.get("lengths"))
