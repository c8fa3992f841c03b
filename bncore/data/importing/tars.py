"""Tar archives, packed or not: read from front to back, as often as it takes; nothing is unpacked onto the disk."""

import tarfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

from bncore.data.dataset import InvalidData
from bncore.data.importing.archive import HEAD_BYTES, Entry, Names, entry_words
from bncore.data.importing.streams import Capped, as_binary, is_packed, plain, reading, unpacked

_BLOCK_BYTES = 512
_MAGIC_AT = 257
_MAGIC = b"ustar"


def is_tar(head: bytes) -> bool:
    """Whether these first bytes, not packed, are those of a tar."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


class TarArchive:
    """A tar at `path`, packed by gzip, bzip2, xz or nothing. Raises `InvalidData` for one that is damaged, or has more
    in it than files and folders."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self.name = path.name
        self._path = path
        self._check = check
        names = Names(self.name)
        self._safe: dict[str, str] = {}
        entries: list[Entry] = []
        for member, stream in self._members():
            safe = names.accept(member.name)
            if safe is not None:
                with reading(entry_words(self.name, safe)):
                    head = stream.read(min(HEAD_BYTES, member.size))
                entries.append(Entry(safe, member.size, head))
        self.junk = names.junk
        self.entries = sorted(entries, key=lambda entry: entry.name)
        self._by_name = {entry.name: entry for entry in self.entries}

    def walk(self, wanted: Collection[str]) -> Iterator[tuple[Entry, IO[bytes]]]:
        """In the order of the archive."""
        for member, stream in self._members():
            safe = Names(self.name).accept(member.name)
            if safe in wanted and safe in self._by_name:
                what = entry_words(self.name, safe)
                # The whole has been measured already; this is for a piece that is too large.
                yield self._by_name[safe], as_binary(Capped(stream, what, member.size))

    def close(self) -> None:
        """Nothing is held open between two walks."""

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
        with self._path.open("rb") as raw, self._unpacked(raw) as stream:
            with reading(self.name):
                tar = tarfile.open(fileobj=as_binary(stream), mode="r:")  # noqa: SIM115
            while True:
                self._check()
                with reading(self.name):
                    member = tar.next()
                    # Else it keeps every one of them, for a search by name.
                    tar.members = []  # type: ignore[attr-defined]
                if member is None:
                    self._refuse_rest(stream)
                    return
                if member.isdir():
                    continue
                if not member.isreg() or member.sparse is not None:
                    what = entry_words(self.name, member.name[:120])
                    raise InvalidData(f"{what} is a link, a device or sparse; pack the files themselves")
                with reading(self.name):
                    content = tar.extractfile(member)
                assert content is not None
                yield member, content

    def _unpacked(self, raw: IO[bytes]) -> Capped:
        head = raw.read(8)
        raw.seek(0)
        if not is_packed(head):
            return plain(self._path)
        return unpacked(raw, head, self.name, self._path.stat().st_size)

    def _refuse_rest(self, stream: Capped) -> None:
        """Read on, where checksums stand. A tar that breaks off between two entries is truncated, too."""
        if stream.last != bytes(_BLOCK_BYTES):
            raise InvalidData(f"{self.name} is truncated or damaged: it has no end")
        with reading(self.name):
            while piece := stream.read(1 << 20):
                if piece.strip(b"\0"):
                    raise InvalidData(f"{self.name} is damaged: something follows its end")
