"""Data sets that were brought in, on this host's disk: fetched once, for all workers and attempts that read them.

Invariant: a folder here is whole and what its name says, from the moment it has that name. It is locked by whoever
reads it, shared, or fetches it, alone; only what nobody has locked is removed, and a kernel lock goes with its process.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog

from store import files
from store.database import Database
from store.errors import DatasetDamaged
from store.prepared import Data
from store.tables import File
from worker.fetching import Interrupted, write

log = structlog.get_logger()

_MANIFEST = "dataset.json"
_LOOK_SECONDS = 0.1


class DataCache:
    """`<runs>/datasets`, which never has more than `most_bytes`, but for what is in use."""

    def __init__(self, runs_dir: Path, database: Database, most_bytes: int) -> None:
        self._folder = runs_dir.resolve() / "datasets"
        self._database = database
        self._most_bytes = most_bytes

    @contextmanager
    def holding(self, data: Data, go_on: Callable[[], bool]) -> Iterator[Path]:
        """The folder of a data set, which stays there as long as the context lasts.

        Raises `Interrupted` as soon as `go_on` says no, `DatasetDamaged`, `FileDamaged`, `FileNotFound`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._held(data, go_on)
        try:
            os.utime(lock.name)
            yield self._folder / data.sha256
        finally:
            lock.close()

    def _held(self, data: Data, go_on: Callable[[], bool]) -> BinaryIO:
        """The lock of a data set that is there, shared."""
        while True:
            if not go_on():
                raise Interrupted
            lock = self._taken(data.sha256, fcntl.LOCK_SH)
            if lock is not None and (self._folder / data.sha256).exists():
                return lock
            if lock is not None:
                lock.close()
            lock = self._taken(data.sha256, fcntl.LOCK_EX)
            if lock is None:
                # Somebody fetches it, or looks whether anybody reads it.
                time.sleep(_LOOK_SECONDS)
                continue
            with lock:
                if not (self._folder / data.sha256).exists():
                    self._fetch(data, go_on)

    def _fetch(self, data: Data, go_on: Callable[[], bool]) -> None:
        with self._database.read() as session:
            rows = [row for row in files.of_job(session, data.dataset_id) if _is_data(row)]
        manifest = next((row for row in rows if row.name == _MANIFEST), None)
        if manifest is None or manifest.sha256 != data.sha256:
            raise DatasetDamaged(data.dataset_id)
        self._make_room(sum(row.size for row in rows))
        unfinished = self._folder / f"{data.sha256}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            for row in rows:
                write(files.read(self._database, row.id), unfinished / row.name, go_on)
                _sync(unfinished / row.name)
            unfinished.rename(self._folder / data.sha256)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        log.info("data_fetched", dataset_id=data.dataset_id, bytes=sum(row.size for row in rows))

    def _make_room(self, wanted: int) -> None:
        """Remove what was read longest ago, until so many bytes fit in, and what nobody went on fetching.

        Other workers do the same at this moment: what was there may be gone.
        """
        there = sorted(self._folder.glob("*.lock"), key=_read_at)
        # A fetch that ends in between is counted, where the other order would miss it.
        sizes = {lock: _size(lock.with_suffix(".part")) + _size(lock.with_suffix("")) for lock in there}
        kept = sum(sizes.values())
        for path in there:
            is_unfinished = path.with_suffix(".part").exists()
            if kept + wanted <= self._most_bytes and not is_unfinished:
                continue
            lock = self._taken(path.stem, fcntl.LOCK_EX)
            if lock is None:
                continue
            with lock:
                _remove(path)
            kept -= sizes[path]

    def _taken(self, sha256: str, how: int) -> BinaryIO | None:
        """The lock, or None when others hold it so that it cannot be had now."""
        path = self._folder / f"{sha256}.lock"
        lock = path.open("ab")
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            # Whoever removed a data set has removed its lock, too: what is held then is nobody's.
            if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        lock.close()
        return None


def _is_data(row: File) -> bool:
    return row.name == _MANIFEST or row.name.endswith(".npy")


def _read_at(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    # Before its folder has the name of a whole one: after a loss of power there might be a name, and nothing in it.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(lock: Path) -> None:
    """The data set of a lock that is held alone; whoever is killed meanwhile leaves half of one, under another name."""
    unfinished = lock.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    with contextlib.suppress(OSError):
        lock.with_suffix("").rename(unfinished)
    shutil.rmtree(unfinished, ignore_errors=True)
    lock.unlink()
