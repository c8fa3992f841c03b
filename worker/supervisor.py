"""The worker's loop: claim, attempt, and again until the queue is empty.

Invariant: one experiment at a time, since there is one device; a worker that is told to go claims nothing more.
"""

import threading

import structlog

from store import leases
from store.database import Database
from store.leases import Claim, Lease, Worker
from worker.attempt import Attempt, Workplace
from worker.device import Device
from worker.outage import OUTAGE, in_a_line
from worker.settings import WorkerSettings
from worker.trainers import Trainers

log = structlog.get_logger()

_MAX_PENALTY_SECONDS = 60.0


class Supervisor:
    """Runs experiments in the thread that calls `run_queue`; `shut_down` may be called from anywhere, a signal too."""

    def __init__(
        self, database: Database, settings: WorkerSettings, device: Device, *, process_id: str, torch_version: str
    ) -> None:
        self._worker = Worker(process_id, device.kind, device.model, torch_version)
        wake = threading.Event()
        trainers = Trainers(settings.runs_dir, device.kind, process_id, wake.set)
        self._place = Workplace(database, settings, device, trainers, wake, threading.Event())
        self._mishaps = 0
        self.experiment_id: str | None = None

    def warm_up(self) -> None:
        """Have a trainer ready before the first bell."""
        self._place.trainers.warm_up()

    def run_queue(self) -> None:
        """Claim and train until nothing is queued, or the worker is told to go."""
        while not self._place.shutdown.is_set():
            claim = self._claim()
            if claim is None:
                return
            with structlog.contextvars.bound_contextvars(
                experiment_id=claim.lease.experiment_id, attempt=claim.lease.attempt
            ):
                self._attempt(claim)

    def shut_down(self) -> None:
        """Stop what runs, hand it back, claim nothing more."""
        self._place.shutdown.set()
        self._place.wake.set()

    def close(self) -> None:
        """End the waiting trainer."""
        self._place.trainers.close()

    def _claim(self) -> Claim | None:
        try:
            with self._place.database.write() as session:
                return leases.claim(session, self._worker, lease_seconds=self._place.settings.lease_seconds)
        except OUTAGE as error:
            # The relay rings again when the database is back.
            log.warning("claim_failed", error=in_a_line(error))
            return None

    def _attempt(self, claim: Claim) -> None:
        self.experiment_id = claim.lease.experiment_id
        try:
            Attempt(claim, self._place).run()
            self._mishaps = 0
        except Exception as error:
            # Ours, not the trainer's: a full disk, a mistake. The experiment may fare better elsewhere.
            log.exception("attempt_broke")
            self._hand_back(claim.lease, error)
            self._mishaps += 1
            self._place.shutdown.wait(min(2.0**self._mishaps, _MAX_PENALTY_SECONDS))
        finally:
            self.experiment_id = None
            if not self._place.shutdown.is_set():
                self.warm_up()

    def _hand_back(self, lease: Lease, error: Exception) -> None:
        try:
            with self._place.database.write() as session:
                leases.restart(session, lease, "worker_lost", f"The worker broke: {type(error).__name__}.")
        except Exception:
            log.exception("hand_back_failed")  # the reaper will find it
