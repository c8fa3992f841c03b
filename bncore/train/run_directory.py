"""The run directory: the whole interface between a trainer and whoever watches it.

At most one trainer works in it: the lock is held by the process and goes with it however it ends. A line of events
counts once its newline is there; a checkpoint counts once it has its final name.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from bncore.events import Event, StoredFile, encode


class RunDirectoryBusy(RuntimeError):
    """Another trainer holds the directory."""


class RunDirectoryUsed(RuntimeError):
    """An attempt has been made in the directory; another one would mix its events with those."""


class RunDirectory:
    """Paths, the lock and the event log of one attempt. Opening it takes the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise RunDirectoryBusy(f"{path} is being trained by another process") from None
        self._events = os.open(path / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if os.fstat(self._events).st_size:
            self.close()
            raise RunDirectoryUsed(
                f"{path} already holds an attempt; to go on from it, put its last checkpoint into restore/ of a new one"
            )

    def close(self) -> None:
        """Close the event log and let go of the lock."""
        os.close(self._events)
        os.close(self._lock)

    def read_spec(self) -> bytes:
        """The text of `spec.json`."""
        return (self.path / "spec.json").read_bytes()

    def restorable(self) -> tuple[Path, Path] | None:
        """Weights and training state to go on from, if the attempt does not start at step 0."""
        weights = self.path / "restore" / "weights.safetensors"
        state = self.path / "restore" / "state.safetensors"
        return (weights, state) if weights.exists() else None

    def log(self, event: Event) -> None:
        """Append one line, at once and whole unless the disk is full."""
        line = encode(event).encode()
        while line:
            line = line[os.write(self._events, line) :]

    def store(self, name: str, write: Callable[[Path], None]) -> StoredFile:
        """Have `write` make a file, and give it its name under `checkpoints/` when all of it is on the disk."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        unfinished, final = folder / f"{name}.tmp", folder / name
        write(unfinished)
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, os.SEEK_END)
            os.fsync(file.fileno())
        unfinished.rename(final)
        _sync_folder(folder)
        return StoredFile(file=f"checkpoints/{name}", size=size, sha256=digest)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
