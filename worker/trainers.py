"""Keeping the next trainer warm: importing torch takes seconds, taking a warm process milliseconds.

Invariant: a trainer trains once. The next is started only when the current one has ended, so that warming up takes
nothing from a run.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import structlog

from worker.trainer_process import TrainerGone, TrainerProcess

log = structlog.get_logger()


class Trainers:
    """At most one warm trainer."""

    def __init__(self, runs_dir: Path, device: str, process_id: str, on_end: Callable[[], None]) -> None:
        self._waiting_logs = runs_dir.resolve() / ".waiting"
        self._device = device
        self._process_id = process_id
        self._on_end = on_end
        self._numbers = count()
        self._warm: TrainerProcess | None = None

    def warm_up(self) -> None:
        """Start the next trainer, unless one waits already."""
        if self._warm is not None and not self._warm.ended:
            return
        self._discard()
        path = self._waiting_logs / f"{self._process_id}-{next(self._numbers)}.log"
        self._warm = TrainerProcess(path, self._device, self._on_end)

    def hand_over(self, run_directory: Path, log_path: Path) -> TrainerProcess:
        """Have the warm trainer train; one that died meanwhile is replaced. Raises `TrainerGone` if that dies too."""
        try:
            return self._hand_over(run_directory, log_path)
        except TrainerGone:
            log.warning("trainer_died_while_waiting")
            return self._hand_over(run_directory, log_path)

    def close(self) -> None:
        """End the warm trainer."""
        self._discard()

    def _hand_over(self, run_directory: Path, log_path: Path) -> TrainerProcess:
        self.warm_up()
        trainer, self._warm = self._warm, None
        assert trainer is not None
        try:
            trainer.train(run_directory, log_path)
        except TrainerGone:
            trainer.close()
            raise
        return trainer

    def _discard(self) -> None:
        if self._warm is not None:
            self._warm.close()
            self._warm.forget_log()
            self._warm = None
