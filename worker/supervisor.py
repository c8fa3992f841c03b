"""The worker's loop: claim, attempt, and again until the queue is empty.

Invariant: one job at a time, since there is one device; a worker that is told to go, that cannot write where its jobs
work, or whose trainers do not start, claims nothing more.
"""

import threading
from dataclasses import dataclass

import structlog

from bncore.lifeline import exit_within
from store import work
from store.database import Database
from store.jobs import bells, leases
from store.jobs.leases import Lease, Terms, Worker
from store.work import Claim, Failed
from worker.attempt import Attempt, Workplace
from worker.device import Device
from worker.insisting import GaveUp
from worker.outage import OUTAGE, in_a_line
from worker.room import is_disk_full, trouble_in
from worker.settings import WorkerSettings
from worker.trainers import Trainers

log = structlog.get_logger()

_MAX_PENALTY_SECONDS = 60.0
# After the grace of trainers: for the last words to the database.
_HARD_EXIT_SECONDS = 15.0


@dataclass
class _Claiming:
    """The token of the claim that is being made; `doubtful` when its answer was lost."""

    token: str
    doubtful: bool = False


class Supervisor:
    """Runs jobs in the thread that calls `run_queue`; everything else may be called from anywhere, a signal too."""

    def __init__(
        self, database: Database, settings: WorkerSettings, device: Device, *, process_id: str, torch_version: str
    ) -> None:
        self._worker = Worker(process_id, device.kind, device.model, torch_version)
        self._terms = Terms(settings.lease_seconds, settings.running_per_owner)
        self._hurry = threading.Event()
        wake = threading.Event()
        news = threading.Event()

        def hear_news() -> None:
            news.set()
            wake.set()

        trainers = Trainers(
            settings.runs_dir,
            device.kind,
            process_id,
            wake.set,
            hear_news,
            # Of a worker that is frozen: its trainer has to be gone by the time that the lease ends.
            alone_seconds=settings.lease_seconds * 2 / 3,
            on_ready=self._hurry.set,
        )
        self._place = Workplace(database, settings, device, trainers, wake, news, threading.Event())
        self._claiming = _Claiming(leases.new_token())
        self._mishaps = 0
        self._at_work = threading.Lock()
        self._no_room: str | None = None
        self.job_id: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why it claims nothing at the moment, if so."""
        return self._no_room or self._place.trainers.trouble

    def warm_up(self) -> None:
        """Have a trainer ready before the first bell."""
        self._place.trainers.warm_up()

    def run_queue(self) -> None:
        """Claim and train until nothing is queued, or the worker is told to go; waits for whoever does so already."""
        with self._at_work:
            self._run_queue()

    def look(self) -> None:
        """The same without a bell, unless somebody is at work; where nothing waits, nothing is written."""
        if not self._at_work.acquire(blocking=False):
            return
        try:
            with self._place.database.read() as session:
                waiting = bells.claimable(session, self._worker.device, 1)
            if waiting:
                self._run_queue()
        finally:
            self._at_work.release()

    def pause(self, seconds: float) -> None:
        """Wait so long before another look, or until there is a reason for one."""
        self._hurry.wait(seconds)
        self._hurry.clear()

    def shut_down(self) -> None:
        """Stop what runs, hand it back, claim nothing more; and end, even if a thread hangs in the database."""
        if not self._place.shutdown.is_set():
            exit_within(self._place.settings.grace_seconds + _HARD_EXIT_SECONDS)
        self._place.shutdown.set()
        self._place.wake.set()
        self._hurry.set()

    def close(self) -> None:
        """End the waiting trainer."""
        self._place.trainers.close()

    def _run_queue(self) -> None:
        while not self._place.shutdown.is_set() and self._has_room() and self._place.trainers.may_train():
            claim = self._claim()
            if claim is None:
                return
            named = {f"{claim.kind}_id": claim.lease.job_id, "attempt": claim.lease.attempt}
            with structlog.contextvars.bound_contextvars(**named):
                self._run(claim)

    def _has_room(self) -> bool:
        settings = self._place.settings
        trouble = trouble_in(settings.runs_dir, settings.spare_bytes)
        if trouble != self._no_room:
            log.warning("takes_no_jobs", reason=trouble) if trouble else log.info("takes_jobs_again")
        self._no_room = trouble
        return trouble is None

    def _claim(self) -> Claim | None:
        claiming = self._claiming
        try:
            with self._place.database.write() as session:
                claim = work.taken(session, self._worker, claiming.token) if claiming.doubtful else None
                claim = claim or work.take(session, self._worker, self._terms, claiming.token)
        except OUTAGE as error:
            # It may have been done all the same. The relay rings again when the database is back.
            claiming.doubtful = True
            log.warning("claim_failed", error=in_a_line(error))
            return None
        self._claiming = _Claiming(leases.new_token())
        return claim

    def _run(self, claim: Claim) -> None:
        self.job_id = claim.lease.job_id
        try:
            Attempt(claim, self._place).run()
            self._mishaps = 0
        except GaveUp:
            log.warning("gave_up")
        except Exception as error:
            # Ours, not the trainer's: a mistake, a broken machine. The job may fare better elsewhere.
            if is_disk_full(error):
                log.warning("disk_full", error=str(error))
            else:
                log.exception("attempt_broke")
            self._hand_back(claim.lease, error)
            self._mishaps += 1
            self._place.shutdown.wait(min(2.0**self._mishaps, _MAX_PENALTY_SECONDS))
        finally:
            self.job_id = None
            if not self._place.shutdown.is_set():
                self.warm_up()

    def _hand_back(self, lease: Lease, error: Exception) -> None:
        failure = Failed("worker_lost", f"The worker broke: {type(error).__name__}.")
        if is_disk_full(error):
            failure = Failed("disk_full", "The worker's disk is full.")
        try:
            with self._place.database.write() as session:
                work.finish(session, lease, failure)
        except Exception:
            log.exception("hand_back_failed")  # the reaper will find it
