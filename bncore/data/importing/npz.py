"""Arrays of numpy: an `.npz` with inputs and targets of one or several parts. No pickle, never the whole at once."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.archive import Entry, entry_words
from bncore.data.importing.arrays import Array
from bncore.data.importing.draft import PART_NAMES
from bncore.data.importing.streams import read_exactly, reading
from bncore.data.importing.zips import ZipArchive

MAGIC = b"\x93NUMPY"
Role = str
"""inputs, targets or lengths."""
_ROLES: dict[Role, set[str]] = {
    "inputs": {"x", "inputs", "input", "images", "image", "data", "features", "sequences"},
    "targets": {"y", "targets", "target", "labels", "label", "classes"},
    "lengths": {"lengths", "length", "lens", "len"},
}
_PART = "|".join(sorted(PART_NAMES, key=len, reverse=True))
_WITH_PART = re.compile(rf"(?:(?P<before>{_PART})[_\-. ]?(?P<rest>.+)|(?P<stem>.+?)[_\-. ]?(?P<after>{_PART}))", re.I)
_HEADER_BYTES = 65_536
_KINDS = "biufUS"


@dataclass(frozen=True)
class Stored:
    """One array of an npz: its name, shape, dtype, order, and where its content begins."""

    key: str
    entry: Entry
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    what: str

    @property
    def row_bytes(self) -> int:
        """Of one example."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))


class Npz:
    """The arrays of an npz by part and role. Raises `InvalidData` for pickles and for arrays that do not fit.

    `told` says which array has a role, where that was said; `scratch` is a folder for what must be turned round.
    """

    def __init__(self, archive: ZipArchive, told: dict[Role, str | None], scratch: Path) -> None:
        self.name = archive.name
        self._scratch = scratch
        self._archive = archive
        stored = [self._read_header(entry) for entry in archive.entries]
        self.parts = self._by_part({array.key: array for array in stored}, told)

    def pieces(self, array: Stored, at_once: int | None = None) -> Iterator[Array]:
        """The rows of an array (k, ...), from the first to the last."""
        rows = at_once or max(1, bounds.PIECE_BYTES // max(1, array.row_bytes))
        with self._content(array) as stream:
            if array.fortran and len(array.shape) > 1:
                yield from _turned(stream, array, rows, self._scratch)
            else:
                yield from _straight(stream, array, rows)
            with reading(array.what):
                if stream.read(1):
                    raise InvalidData(f"{array.what} goes on after its end")

    def whole(self, array: Stored) -> Array:
        """All of an array of few numbers an example."""
        return np.concatenate(list(self.pieces(array)))

    def _read_header(self, entry: Entry) -> Stored:
        what = f"array {entry.name.removesuffix('.npy')!r} of {self.name}"
        if not entry.head.startswith(MAGIC):
            raise InvalidData(
                f"{entry_words(self.name, entry.name)} is no numpy array; write the file with numpy.savez"
            )
        for _, stream in self._archive.walk({entry.name}):
            with reading(what):
                shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            raise InvalidData(f"{what} has Python objects, which are stored as a pickle and never read; store numbers")
        if dtype.kind not in _KINDS or dtype.itemsize == 0:
            raise InvalidData(f"{what} has the dtype {dtype}; store numbers, truth values or texts")
        if not shape or min(shape) < 0:
            raise InvalidData(f"{what} has no axis of examples")
        if dtype.itemsize * int(np.prod(shape, dtype=object)) > entry.size:
            raise InvalidData(f"{what} is truncated: it says {list(shape)}, and has {entry.size:,} bytes")
        return Stored(entry.name.removesuffix(".npy"), entry, dtype, shape, fortran, what)

    @contextmanager
    def _content(self, array: Stored) -> Iterator[IO[bytes]]:
        for _, stream in self._archive.walk({array.entry.name}):
            with reading(array.what):
                _header(stream)
            yield stream

    def _by_part(self, arrays: dict[str, Stored], told: dict[Role, str | None]) -> dict[str, dict[Role, Stored]]:
        parts: dict[str, dict[Role, Stored]] = {}
        for key, array in arrays.items():
            part, stem = _split(key, told)
            role = next((role for role in _ROLES if _has_role(stem, role, told)), None)
            if role is None:
                continue
            if role in parts.setdefault(part, {}):
                other = parts[part][role].key
                raise InvalidData(f"{self.name} has two arrays of {role}, {other!r} and {key!r}; name one with {role}")
            parts[part][role] = array
        for part in parts:
            self._check(part, parts[part], list(arrays))
        if not parts:
            raise InvalidData(f"{self.name} has {_listed(list(arrays))}; name two of them with inputs and targets")
        return parts

    def _check(self, part: str, arrays: dict[Role, Stored], keys: list[str]) -> None:
        for role in ("inputs", "targets"):
            if role not in arrays:
                raise InvalidData(f"{self.name} has no {role} of the {part} part; it has {_listed(keys)}; name them")
        counts = {array.key: array.shape[0] for array in arrays.values()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{key!r} {count:,}" for key, count in counts.items())
            raise InvalidData(f"{self.name}: arrays of the {part} part have different numbers of examples: {said}")


def _listed(keys: list[str]) -> str:
    return f"the arrays {', '.join(repr(key) for key in sorted(keys)[:20])}" if keys else "no arrays"


def _split(key: str, told: dict[Role, str | None]) -> tuple[str, str]:
    """Part and what is left of the name; a name that was told is one by itself."""
    if key in told.values():
        return "train", key
    match = _WITH_PART.fullmatch(key)
    if match is None:
        return "train", key
    part = match["before"] or match["after"]
    return PART_NAMES[part.lower()], match["rest"] or match["stem"]


def _has_role(stem: str, role: Role, told: dict[Role, str | None]) -> bool:
    name = told.get(role)
    if name is not None:
        return stem == name or stem.lower() == name.lower()
    return stem.lower() in _ROLES[role] and stem not in told.values()


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream, max_header_size=_HEADER_BYTES)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream, max_header_size=_HEADER_BYTES)
    raise InvalidData(f"an array is of numpy's format {version}; store plain numbers")


def _straight(stream: IO[bytes], array: Stored, rows: int) -> Iterator[Array]:
    for first in range(0, array.shape[0], rows):
        count = min(rows, array.shape[0] - first)
        content = read_exactly(stream, count * array.row_bytes, array.what)
        yield np.frombuffer(content, dtype=array.dtype).reshape(count, *array.shape[1:])


def _turned(stream: IO[bytes], array: Stored, rows: int, scratch: Path) -> Iterator[Array]:
    """An array in Fortran's order has an example's numbers all over the file: it is laid on the disk and mapped."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        missing = array.row_bytes * array.shape[0]
        while missing:
            piece = read_exactly(stream, min(missing, bounds.PIECE_BYTES), array.what)
            file.write(piece)
            missing -= len(piece)
        file.flush()
        mapped = np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape, order="F")
        for first in range(0, array.shape[0], rows):
            yield np.ascontiguousarray(mapped[first : first + rows])
