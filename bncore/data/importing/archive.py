"""Archives, zip or tar: their entries by safe names, in one order, whatever the order in the archive.

Invariant: no entry reaches outside the archive, and none is read that is not a plain file. Nothing is unpacked to the
place that its name says.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds

HEAD_BYTES = 512
"""Enough to tell a tar from anything else."""

_DRIVE = re.compile(r"[A-Za-z]:")
_JUNK_FOLDERS = {"__macosx"}
_JUNK = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Entry:
    """A plain file: its path with `/`, its size as the archive says, and its first bytes."""

    name: str
    size: int
    head: bytes

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that it lies in, outermost first."""
        return tuple(self.name.split("/")[:-1])

    @property
    def file(self) -> str:
        """Its name without folders."""
        return self.name.rpartition("/")[2]


class Archive(Protocol):
    """Entries sorted by name, without what platforms leave behind, whose number is `junk`."""

    name: str
    entries: list[Entry]
    junk: int

    def walk(self, wanted: Collection[str]) -> Iterator[tuple[Entry, IO[bytes]]]:
        """Entries of these names with their content, in the order that suits the archive. A stream must be read before
        the next entry is asked for. Raises `InvalidData` for damage."""
        ...


class Names:
    """Checks the names of one archive; each may come once."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._seen: set[str] = set()
        self.junk = 0

    def accept(self, name: str) -> str | None:
        """The name as it is used, or None for what a platform left behind.

        Raises `InvalidData` for one that reaches outside, that cannot be shown, or that was there before.
        """
        safe = unicodedata.normalize("NFC", name.replace("\\", "/"))
        shown = "".join(sign if sign.isprintable() else "?" for sign in safe[:120])
        self._refuse(safe, shown)
        parts = [part for part in safe.split("/") if part not in ("", ".")]
        safe = "/".join(parts)
        if safe in self._seen:
            raise InvalidData(f"{self._archive} has the entry {shown!r} twice: which one counts is unclear")
        if len(self._seen) >= bounds.ENTRIES:
            raise InvalidData(f"{self._archive} has more than {bounds.ENTRIES:,} entries; npz or Parquet hold more")
        self._seen.add(safe)
        if not parts or _is_junk(parts):
            self.junk += 1
            return None
        return safe

    def _refuse(self, name: str, shown: str) -> None:
        if name.startswith("/") or _DRIVE.match(name):
            raise InvalidData(f"{self._archive} has an absolute name, {shown!r}; pack the folder from inside")
        if ".." in name.split("/"):
            raise InvalidData(f"{self._archive} has a name that leads outside, {shown!r}; pack the folder from inside")
        if len(name) > bounds.NAME_CHARS or not name.isprintable():
            raise InvalidData(f"{self._archive} has a name that is too long or cannot be shown, {shown!r}; rename it")


def entry_words(archive: str, entry: str) -> str:
    """How messages speak of an entry."""
    return f"entry {entry!r} of {archive}"


def each(archive: Archive, entries: list[Entry], use: Callable[[Entry, IO[bytes]], None]) -> None:
    """Call `use` with every one of the entries and its content."""
    for entry, stream in archive.walk({entry.name for entry in entries}):
        use(entry, stream)


def _is_junk(parts: list[str]) -> bool:
    folders = {part.lower() for part in parts[:-1]}
    file = parts[-1].lower()
    return bool(folders & _JUNK_FOLDERS) or file in _JUNK or any(part.startswith(".") for part in parts)
