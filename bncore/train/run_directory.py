"""The trainer's side of a run directory, which is the whole interface between it and whoever watches.

At most one trainer works in it: the lock is held by the process and goes with it however it ends. A line of events is
there whole or not at all; a checkpoint counts once it has its final name.
"""

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from bncore.events import Event, FileSaved, StoredFile, encode
from bncore.run_directory import RunLayout

LOCK_SECONDS = 60.0
"""How long a trainer waits for the one before it, which ends as soon as its supervisor hears that the lease is lost."""
_POLL_SECONDS = 0.02

_logger = logging.getLogger(__name__)


class RunDirectoryBusy(RuntimeError):
    """Another trainer holds the directory."""


class RunDirectoryUsed(RuntimeError):
    """An attempt has been made in the directory; another one would mix its events with those."""


class RunDirectory:
    """The lock, the event log and the checkpoints of one attempt. Opening it takes the lock.

    `wait_seconds` is how long it may take, unless `stop_asked` says yes before. `ring` tells whoever watches that there
    is something to read. What is `durable` is on the disk before it is told of, should the power fail; a process that
    is killed takes nothing back in any case.
    """

    def __init__(
        self,
        path: Path,
        *,
        wait_seconds: float = 0.0,
        stop_asked: Callable[[], bool] = lambda: False,
        ring: Callable[[], None] = lambda: None,
        durable: bool = True,
    ) -> None:
        self.path = path
        self._durable = durable
        self.ring = ring
        self._layout = RunLayout(path)
        self._lock = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT, 0o644)
        if not _locked(self._lock, wait_seconds, stop_asked):
            os.close(self._lock)
            raise RunDirectoryBusy(f"{path} is being trained by another process")
        self._events = os.open(self._layout.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._written = os.fstat(self._events).st_size
        if self._written:
            self.close()
            raise RunDirectoryUsed(
                f"{path} already holds an attempt; take another, to go on with the last checkpoint in its restore/"
            )

    def close(self) -> None:
        """Close the event log and let go of the lock."""
        os.close(self._events)
        os.close(self._lock)

    @property
    def layout(self) -> RunLayout:
        """The paths in it."""
        return self._layout

    def read_spec(self) -> bytes:
        """The text of `spec.json`."""
        return self._layout.spec.read_bytes()

    def rest_step(self) -> int | None:
        """The step after which the attempt is to rest, if there is one."""
        try:
            return int(json.loads(self._layout.rest.read_bytes())["step"])
        except FileNotFoundError:
            return None

    def restorable(self) -> tuple[Path, Path] | None:
        """Weights and training state to go on from, if the attempt does not start at step 0."""
        weights, state = self._layout.restore_weights, self._layout.restore_state
        # One without the other is no start at step 0 but a damaged checkpoint.
        return (weights, state) if weights.exists() or state.exists() else None

    def log(self, event: Event) -> None:
        """Append one line. Where there is room for a part of it only, nothing of it stays, and OSError is raised."""
        line = encode(event).encode()
        rest = line
        try:
            while rest:
                rest = rest[os.write(self._events, rest) :]
        except OSError:
            if len(rest) < len(line):
                # The next line would be glued to it.
                os.ftruncate(self._events, self._written)
            raise
        self._written += len(line)

    def store(self, name: str, write: Callable[[Path], None]) -> StoredFile:
        """Have `write` make a file, and give it its name under `checkpoints/` when all of it is there."""
        return self._keep(self._layout.checkpoints, name, write)

    def store_again(self, name: str, stored: StoredFile) -> StoredFile | None:
        """Give what is stored under `checkpoints/` another name besides; None where it is gone, or cannot have two."""
        final = self._layout.checkpoints / name
        try:
            os.link(self.path / stored.file, final)
        except OSError:
            return None
        self._sync_folder(final.parent)
        return stored.model_copy(update={"file": str(final.relative_to(self.path))})

    def save(self, name: str, file_kind: str, write: Callable[[Path], None], step: int | None = None) -> FileSaved:
        """Have `write` make a result file under `files/`, and log it. On a full disk OSError is raised."""
        file = self._keep(self._layout.files, name, write)
        saved = FileSaved(name=name, file_kind=file_kind, file=file, step=step)
        self.log(saved)
        self.ring()
        return saved

    def _keep(self, folder: Path, name: str, write: Callable[[Path], None]) -> StoredFile:
        folder.mkdir(exist_ok=True)
        unfinished, final = folder / f"{name}.tmp", folder / name
        try:
            write(unfinished)
            with unfinished.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.seek(0, os.SEEK_END)
                if self._durable:
                    os.fsync(file.fileno())
        except OSError:
            # On a full disk, its room may be what the last event needs.
            unfinished.unlink(missing_ok=True)
            raise
        unfinished.rename(final)
        self._sync_folder(folder)
        return StoredFile(file=str(final.relative_to(self.path)), size=size, sha256=digest)

    def _sync_folder(self, folder: Path) -> None:
        if not self._durable:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked(lock: int, wait_seconds: float, stop_asked: Callable[[], bool]) -> bool:
    until = time.monotonic() + wait_seconds
    waits = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until or stop_asked():
                return False
        if not waits:
            _logger.info("another trainer is at it: waiting for its end")
            waits = True
        # A lock cannot be waited for together with a signal and a clock.
        time.sleep(_POLL_SECONDS)
