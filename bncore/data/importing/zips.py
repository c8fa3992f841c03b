"""Zip archives: every size is compared with what comes out, and the index with what it could hold."""

import stat
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.archive import HEAD_BYTES, Entry, Names, entry_words
from bncore.data.importing.streams import Capped, as_binary, check_ratio, reading

_END = b"PK\x05\x06"
_END_BYTES = 22
_COMMENT_BYTES = 65_535
_ELSEWHERE = 0xFFFFFFFF
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_LARGE_END, _LARGE_END_BYTES = b"PK\x06\x06", 56
_INDEX_ENTRY_BYTES = 246
"""Of an entry in the index at the end, with a long name."""
_ENCRYPTED = 0x1 | 0x40


class ZipArchive:
    """A zip file at `path`. Raises `InvalidData` for one that is damaged, encrypted, or has more in it than files."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self.name = path.name
        self._check = check
        _refuse_large_index(path)
        with reading(self.name):
            self._zip = zipfile.ZipFile(path)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        names = Names(self.name)
        total = 0
        for info in self._zip.infolist():
            self._refuse(info)
            safe = None if info.filename.endswith("/") else names.accept(info.filename)
            if safe is not None:
                self._infos[safe] = info
                total += info.file_size
                check_ratio(self.name, total, path.stat().st_size)
        self.junk = names.junk
        self.entries = [self._entry(name) for name in sorted(self._infos)]

    def walk(self, wanted: Collection[str]) -> Iterator[tuple[Entry, IO[bytes]]]:
        """In the order of their names."""
        for entry in self.entries:
            if entry.name in wanted:
                self._check()
                with self._open(entry.name) as stream:
                    yield entry, as_binary(stream)

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()

    def _entry(self, name: str) -> Entry:
        self._check()
        with self._open(name) as stream:
            return Entry(name, self._infos[name].file_size, stream.read(HEAD_BYTES))

    def _open(self, name: str) -> Capped:
        info = self._infos[name]
        what = entry_words(self.name, name)
        with reading(what):
            return Capped(self._zip.open(info), what, info.compress_size)

    def _refuse(self, info: zipfile.ZipInfo) -> None:
        what = entry_words(self.name, info.filename[:120])
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidData(f"{what} is a link or a device; pack the files themselves")
        if info.flag_bits & _ENCRYPTED:
            raise InvalidData(f"{what} is encrypted; pack it without a password")
        check_ratio(what, info.file_size, info.compress_size)


def _refuse_large_index(path: Path) -> None:
    """Before an object is made of each entry: the end says how large the index is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _COMMENT_BYTES))
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + _END_BYTES:
            raise InvalidData(f"{path.name} begins like a zip file and has no end: it is truncated")
        index_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
        if index_bytes == _ELSEWHERE:
            index_bytes = _large_index_bytes(file, tail[max(0, at - _LOCATOR_BYTES) : at])
    if index_bytes > min(size, bounds.ENTRIES * _INDEX_ENTRY_BYTES):
        raise InvalidData(
            f"{path.name} has an index of {index_bytes:,} bytes: it is damaged, or has more than {bounds.ENTRIES:,} "
            "entries; npz or Parquet hold more"
        )


def _large_index_bytes(file: BinaryIO, locator: bytes) -> int:
    """Where a zip was written as one of more than 4 GB, whether it has that or not: the size stands before the end."""
    file.seek(int.from_bytes(locator[8:16], "little") if locator.startswith(_LOCATOR) else 0)
    end = file.read(_LARGE_END_BYTES)
    return int.from_bytes(end[40:48], "little") if end.startswith(_LARGE_END) else _ELSEWHERE
