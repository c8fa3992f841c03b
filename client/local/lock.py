"""One stack a data directory. The kernel drops the lock with its holder, however it died: there is no stale lock."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any


class DirectoryInUse(Exception):
    """Another `bnlab` holds the data directory; the text says which."""


class DirectoryLock:
    """Held from `with` to its end. The file tells others who holds it and where the API listens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> "DirectoryLock":
        # Python opens files close-on-exec: a child that outlived us by a moment would otherwise keep the lock.
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            holder = _read(self._path)
            who = f"process {holder['pid']}" if "pid" in holder else "another process"
            where = f", serving {holder['url']}" if "url" in holder else ""
            raise DirectoryInUse(f"{self._path.parent} is in use by {who}{where}") from None
        self.describe()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def describe(self, **facts: Any) -> None:
        """Write the holder's process id and `facts` into the lock file."""
        text = json.dumps({"pid": os.getpid(), **facts}).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)


def holder_of(path: Path) -> dict[str, Any]:
    """What the holder of a lock wrote about itself; empty when nobody holds it."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(path)
            return {}
    except OSError:
        return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
