"""The directories that supervisor and trainer share, one an attempt: `<runs>/<job id>/<attempt>`.

Invariant: a directory is removed only by the process that made it, or once neither a supervisor nor a trainer holds its
lock; a kernel lock goes with its process, however that died. The trainers of one job share one lock, whichever
attempt they belong to: on one host there are never two at work.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from bncore.run_directory import RunLayout

_ATTEMPTS, _WAITING = "[a-z][a-z][a-z]_*/*/", ".waiting/*/"
_SHARED_LOCK = "lock"


class HeldDirectory(RunLayout):
    """A directory held for as long as the context lasts and removed at its end."""

    def __init__(self, runs_dir: Path, path: Path) -> None:
        super().__init__(path)
        self._runs_dir = runs_dir
        self._held: BinaryIO | None = None
        self._kept = False

    def __enter__(self) -> Self:
        with _changing(self._runs_dir):
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            self._held = _taken(self.supervisor_lock)
        return self

    def keep(self) -> None:
        """Leave it where it is at the end, for whoever looks for leftovers next."""
        self._kept = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._kept:
            with _changing(self._runs_dir):
                _remove(self.path)
        if self._held is not None:
            self._held.close()


class WaitingDirectory(HeldDirectory):
    """Where a worker's waiting process leaves its log, and its temporary files while it warms up."""

    def __init__(self, runs_dir: Path, process_id: str) -> None:
        super().__init__(runs_dir, runs_dir.resolve() / ".waiting" / process_id)


class RunDirectory(HeldDirectory):
    """One attempt's directory."""

    def __init__(self, runs_dir: Path, job_id: str, attempt: int) -> None:
        super().__init__(runs_dir, runs_dir.resolve() / job_id / str(attempt))

    def __enter__(self) -> Self:
        super().__enter__()
        self.lock.symlink_to(Path("..") / _SHARED_LOCK)
        return self


def abandoned(runs_dir: Path) -> list[RunLayout]:
    """The directories of attempts whose worker is gone; their trainers may be about to end."""
    with _changing(runs_dir):
        layouts = [RunLayout(path) for path in sorted(runs_dir.resolve().glob(_ATTEMPTS))]
        return [layout for layout in layouts if _is_free(layout.supervisor_lock)]


def remove_leftovers(runs_dir: Path) -> list[Path]:
    """Remove the directories of workers and trainers that are gone."""
    removed = []
    with _changing(runs_dir):
        root = runs_dir.resolve()
        for path in sorted([*root.glob(_ATTEMPTS), *root.glob(_WAITING)]):
            layout = RunLayout(path)
            if _is_free(layout.supervisor_lock) and _is_free(layout.lock):
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
    with suppress(FileNotFoundError):  # somebody has cleared up already
        if {other.name for other in path.parent.iterdir()} <= {_SHARED_LOCK}:
            # No attempt is left that could have it open.
            (path.parent / _SHARED_LOCK).unlink(missing_ok=True)
            path.parent.rmdir()


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
