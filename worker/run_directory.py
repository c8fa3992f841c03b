"""The directories that supervisor and trainer share, one an attempt: `<runs>/<experiment id>/<attempt>`.

Invariant: a directory is removed only by the supervisor that made it, or once neither a supervisor nor a trainer holds
its lock; a kernel lock goes with its process, however that died.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_SUPERVISOR_LOCK = "supervisor.lock"
_TRAINER_LOCK = "lock"


class RunDirectory:
    """One attempt's directory, held for as long as the context lasts and removed at its end."""

    def __init__(self, runs_dir: Path, experiment_id: str, attempt: int) -> None:
        self.path = runs_dir.resolve() / experiment_id / str(attempt)
        self.restore = self.path / "restore"
        self.spec = self.path / "spec.json"
        self.events = self.path / "events.jsonl"
        self.log = self.path / "trainer.log"
        self._runs_dir = runs_dir
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        with _changing(self._runs_dir):
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            self._lock = _taken(self.path / _SUPERVISOR_LOCK)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _changing(self._runs_dir):
            _remove(self.path)
        if self._lock is not None:
            self._lock.close()


def remove_leftovers(runs_dir: Path) -> list[Path]:
    """Remove the directories of attempts whose worker and trainer are gone."""
    removed = []
    with _changing(runs_dir):
        for path in sorted(runs_dir.resolve().glob("exp_*/*/")):
            if _is_free(path / _SUPERVISOR_LOCK) and _is_free(path / _TRAINER_LOCK):
                _remove(path)
                removed.append(path)
    return removed


@contextmanager
def _changing(runs_dir: Path) -> Iterator[None]:
    """One process at a time: a directory must not be removed between its making and its locking."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    with (runs_dir / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.parent.rmdir()
    except OSError:
        return  # another attempt of the experiment is in there


def _is_free(path: Path) -> bool:
    if not path.exists():
        return True
    lock = _taken(path)
    if lock is None:
        return False
    lock.close()
    return True


def _taken(path: Path) -> BinaryIO | None:
    """The locked file, or None when somebody else holds it."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
