"""One attempt at one experiment, from its claim to its end.

Invariant: nothing is stored but under the lease; when the lease is lost the trainer dies at once and nothing more is
written. A database that is away stops neither the trainer nor the attempt.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from store.database import Database
from store.errors import StaleLease
from store.leases import Claim, Failed, Go, Stop
from worker.device import Device
from worker.ending import Ending, Exit, Reason, commit, judge
from worker.event_file import NotAnEvent
from worker.outage import OUTAGE, in_a_line
from worker.reporting import Reporting
from worker.restore import RestoreInterrupted, fetch
from worker.run_directory import RunDirectory
from worker.settings import WorkerSettings
from worker.trainer_process import TrainerProcess
from worker.trainers import Trainers

log = structlog.get_logger()

_LAST_WORDS_BYTES = 4000


class GaveUp(Exception):
    """The worker has to go and the database stayed away; the reaper will see to the experiment."""


@dataclass(frozen=True)
class Workplace:
    """What every attempt of a worker uses."""

    database: Database
    settings: WorkerSettings
    device: Device
    trainers: Trainers
    wake: threading.Event
    """Set when a trainer ends and when the worker is told to go."""
    shutdown: threading.Event


class Attempt:
    """Use `run` once."""

    def __init__(self, claim: Claim, place: Workplace) -> None:
        self._claim = claim
        self._place = place
        self._settings = place.settings
        self._directory = RunDirectory(place.settings.runs_dir, claim.lease.experiment_id, claim.lease.attempt)
        self._reporting = Reporting(
            place.database,
            claim.lease,
            claim.spec,
            self._directory.path,
            lease_seconds=self._settings.lease_seconds,
            renew_seconds=self._settings.tick_seconds,
            on_answer=self._hear,
        )
        self._trainer: TrainerProcess | None = None
        self._asked: Reason | None = None
        self._kill_at = math.inf
        self._flush_at = 0.0
        self._database_is_away = False

    def run(self) -> None:
        """Restore, train, store the outcome. Raises `GaveUp`; a lost lease is no error."""
        with self._directory:
            try:
                self._store_ending(self._train())
            except StaleLease:
                log.warning("lease_lost")
            finally:
                if self._trainer is not None:
                    self._trainer.kill()
                    self._trainer.close()

    def _train(self) -> Ending:
        try:
            self._prepare()
            if self._asked is not None:
                return judge(Exit(None, 0, True, ""), self._asked)
            place = self._directory
            self._trainer = self._place.trainers.hand_over(place.path, place.log)
            log.info("training", pid=self._trainer.pid, resumed_from_step=self._claim.restore_step)
            return self._follow(self._trainer)
        except NotAnEvent as error:
            return Failed("trainer_error", f"The trainer wrote a line that is no event: {error}")

    def _prepare(self) -> None:
        spec: dict[str, Any] = dict(self._claim.spec)
        # The queue has decided; `auto` must not be decided a second time, perhaps differently.
        spec["resources"] = {**spec["resources"], "device": self._place.device.kind}
        self._directory.spec.write_text(json.dumps(spec), encoding="utf-8")
        checkpoint = self._claim.restore
        if checkpoint is None:
            return
        try:
            self._insist(
                lambda: fetch(
                    self._place.database,
                    self._claim.lease.experiment_id,
                    checkpoint,
                    self._directory,
                    self._restoring_goes_on,
                )
            )
        except RestoreInterrupted:
            log.info("restore_interrupted", asked=self._asked)

    def _restoring_goes_on(self) -> bool:
        self._reporting.flush()
        self._hear_shutdown()
        return self._asked is None

    def _follow(self, trainer: TrainerProcess) -> Ending:
        while not trainer.ended:
            self._place.wake.wait(self._idle_seconds())
            self._place.wake.clear()
            self._hear_shutdown()
            self._kill_if_overdue()
            if time.monotonic() >= self._flush_at and not trainer.ended:
                self._try_to_flush()
        if not self._place.shutdown.is_set():
            self._place.trainers.warm_up()
        self._insist(self._drain)
        assert trainer.returncode is not None
        words = trainer.last_words(_LAST_WORDS_BYTES)
        return judge(Exit(self._reporting.last_event, trainer.returncode, trainer.was_ready, words), self._asked)

    def _drain(self) -> None:
        while self._reporting.flush():
            continue

    def _store_ending(self, ending: Ending) -> None:
        def store() -> None:
            with self._place.database.write() as session:
                state = commit(session, self._claim.lease, ending).state
            log.info("attempt_ended", ending=type(ending).__name__.lower(), state=state.value, **_facts(ending))

        self._insist(store)

    def _hear(self, answer: Go | Stop) -> None:
        if isinstance(answer, Stop):
            self._ask(answer.reason)
        self._hear_shutdown()
        self._kill_if_overdue()

    def _hear_shutdown(self) -> None:
        if self._place.shutdown.is_set():
            self._ask("shutdown")

    def _ask(self, reason: Reason) -> None:
        if self._asked is not None:
            return
        self._asked = reason
        self._kill_at = time.monotonic() + self._settings.grace_seconds
        log.info("stopping", reason=reason)
        if self._trainer is not None:
            self._trainer.stop()

    def _kill_if_overdue(self) -> None:
        if time.monotonic() >= self._kill_at and self._trainer is not None and not self._trainer.ended:
            log.warning("grace_is_over", grace_seconds=self._settings.grace_seconds)
            self._trainer.kill()

    def _idle_seconds(self) -> float:
        return max(0.0, min(self._flush_at, self._kill_at) - time.monotonic())

    def _try_to_flush(self) -> None:
        try:
            self._reporting.flush()
        except OUTAGE as error:
            self._database_went_away(error)
            self._flush_at = time.monotonic() + self._settings.tick_seconds
        else:
            self._database_answered()
            self._flush_at = time.monotonic() + min(self._settings.flush_seconds, self._settings.tick_seconds)

    def _insist(self, act: Callable[[], None]) -> None:
        """Do it now or, if the database is away, as soon as it is back."""
        while True:
            try:
                act()
            except OUTAGE as error:
                self._database_went_away(error)
            else:
                self._database_answered()
                return
            self._hear_shutdown()
            if self._place.shutdown.is_set() and time.monotonic() >= self._kill_at:
                raise GaveUp
            self._place.wake.wait(self._settings.tick_seconds)
            self._place.wake.clear()

    def _database_went_away(self, error: Exception) -> None:
        if not self._database_is_away:
            log.warning("database_away", error=in_a_line(error))
        self._database_is_away = True

    def _database_answered(self) -> None:
        if self._database_is_away:
            log.info("database_back")
        self._database_is_away = False


def _facts(ending: Ending) -> dict[str, str]:
    return {name: value for name, value in vars(ending).items() if isinstance(value, str)}
