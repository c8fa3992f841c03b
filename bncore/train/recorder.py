"""What a run tells the world while it trains: metrics in blocks, phases, single points, in the order of training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bncore.events import Event, MetricsBlock, Phase, PhaseChanged
from bncore.train.learner import Stepped
from bncore.train.metrics import StepMetrics
from bncore.train.progress import Progress
from bncore.train.run_directory import RunDirectory
from bncore.train.task import Task

WRITE_SECONDS = 0.25
"""Blocks are written this far apart at least, but for the first: whoever watches wants to see that it runs."""
RING_SECONDS = 0.05
SPEED_SECONDS = 1.0
ANNOUNCE_SECONDS = 0.5
"""A phase that took less the last time is not announced: hundreds of evaluations of a millisecond are no news."""


class Recorder:
    """Writes the events of one attempt. `progress` is read, and told of losses as they leave the device."""

    def __init__(self, directory: RunDirectory, task: Task, progress: Progress) -> None:
        self._directory = directory
        self._progress = progress
        self._metrics = StepMetrics(task, progress.step)
        self._write_at = self._ring_at = time.perf_counter()
        self._speed_since = (progress.step, progress.seconds)
        self._durations: dict[tuple[str, str], float] = {}

    def log(self, event: Event) -> None:
        """Write one event now."""
        self._directory.log(event)

    def add(self, stepped: Stepped) -> None:
        """Keep one training step's numbers on their device."""
        self._metrics.add(stepped)

    def is_due(self) -> bool:
        """Whether whoever watches has waited long enough for numbers."""
        return time.perf_counter() >= self._write_at

    def drain(self) -> None:
        """Read what the device holds, and look for divergence in it."""
        first_step, losses = self._metrics.drain()
        self._progress.note_losses(first_step, losses)

    def write(self) -> None:
        """Drain, write every number up to the current step, and ring; the speed too, about once a second."""
        self.drain()
        block = self._metrics.take()
        if block is not None:
            self.log(block)
        step, seconds = self._speed_since
        passed = self._progress.seconds - seconds
        if passed >= SPEED_SECONDS:
            self._speed_since = (self._progress.step, self._progress.seconds)
            self.write_point(self._progress.step, {"system/steps_per_second": (self._progress.step - step) / passed})
        now = time.perf_counter()
        self._write_at = now + WRITE_SECONDS
        if block is not None and now >= self._ring_at:
            # Evaluations every few steps make hundreds of blocks a second; those are found by looking now and then.
            self._directory.ring()
            self._ring_at = now + RING_SECONDS

    def write_point(self, step: int, values: dict[str, float]) -> None:
        """Write one point of each series."""
        self.log(MetricsBlock(first_step=step, count=1, values={key: [value] for key, value in values.items()}))

    @contextmanager
    def phase(self, phase: Phase, of: str = "") -> Iterator[None]:
        """Announce a phase and the return from it to training, where it is worth it, by the last one `of` the same."""
        announced = self._durations.get((phase, of), ANNOUNCE_SECONDS) >= ANNOUNCE_SECONDS
        if announced:
            self.log(PhaseChanged(phase=phase))
        began = time.perf_counter()
        yield
        self._durations[phase, of] = time.perf_counter() - began
        if announced:
            self.log(PhaseChanged(phase="training"))
