"""Watches from outside that no job is ever trained by two trainers at once.

Invariant: two trainers of one job count as a fault when both have written something since both were first seen, and
neither was stopped at any look in between.
"""

import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.chaos.trainers import Trainer, trainer_at

_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Together:
    """Two or more trainers of one job that were at work at once."""

    experiment_id: str
    at: float
    attempts: tuple[tuple[int, int], ...]
    """Process and attempt of each."""


class Monitor:
    """Looks again and again from `start` to `stop`."""

    def __init__(self, directory: Path) -> None:
        self.together: list[Together] = []
        self.looks = 0
        self._directory = str(directory)
        self._ours: dict[psutil.Process, bool] = {}
        self._now: dict[str, list[Trainer]] = {}
        self._pairs: dict[str, dict[Trainer, int]] = {}
        """Jobs with two or more trainers, and what each of those had written when that began."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def trainers_of(self, experiment_id: str) -> list[Trainer]:
        """Who trains a job, as of the last look."""
        return list(self._now.get(experiment_id, []))

    def all_trainers(self) -> list[Trainer]:
        """Who trains anything, as of the last look, by experiment."""
        return [trainer for _, trainers in sorted(self._now.items()) for trainer in trainers]

    def leftovers(self) -> list[psutil.Process]:
        """Every process that works in our folder, whatever it is."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()
            self.looks += 1

    def _look(self) -> None:
        found: dict[str, list[Trainer]] = defaultdict(list)
        living = list(psutil.process_iter())
        self._ours = {process: self._ours.get(process) or self._is_ours(process) for process in living}
        for process in (process for process, ours in self._ours.items() if ours):
            trainer = trainer_at(process)
            if trainer is not None:
                found[trainer.experiment_id].append(trainer)
        for experiment_id in {*found, *self._pairs}:
            self._compare(experiment_id, found.get(experiment_id, []))
        self._now = dict(found)

    def _compare(self, experiment_id: str, trainers: list[Trainer]) -> None:
        sizes = _sizes_at_work(trainers)
        if len(sizes) < 2:
            self._pairs.pop(experiment_id, None)
            return
        began = self._pairs.setdefault(experiment_id, sizes)
        grown = [trainer for trainer, size in sizes.items() if size > began.get(trainer, size)]
        if len(grown) > 1:
            attempts = tuple((trainer.process.pid, trainer.attempt) for trainer in grown)
            self.together.append(Together(experiment_id, time.time(), attempts))
            del self._pairs[experiment_id]

    def _is_ours(self, process: psutil.Process) -> bool:
        """Every process of the service starts in our folder, and its children with it."""
        try:
            return str(process.cwd()).startswith(self._directory)
        except (OSError, psutil.Error):
            return False


def _sizes_at_work(trainers: list[Trainer]) -> dict[Trainer, int]:
    """What each of those that are not stopped has written."""
    sizes = {}
    for trainer in trainers if len(trainers) > 1 else ():
        with contextlib.suppress(OSError, psutil.Error):
            if not trainer.is_stopped:
                sizes[trainer] = trainer.events_bytes()
    return sizes
