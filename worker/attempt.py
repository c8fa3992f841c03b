"""One attempt at one job, from its claim to its end.

Invariant: nothing is stored but under the lease; when the lease is lost the trainer dies at once and nothing more is
written. A database that is away stops neither the trainer nor the attempt.
"""

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from typing import Any, TypeGuard

import structlog
from sqlalchemy.orm import Session

from bncore.events import Finished
from store import checkpoints, files, work
from store.database import Database
from store.errors import DatasetDamaged, DatasetUnusable, FileDamaged, FileNotFound, QuotaExceeded, StaleLease
from store.jobs.failures import QUOTA
from store.jobs.moves import Moved
from store.queueing import Limits as StoredLimits
from store.work import Claim, Concluded, Failed, Outcome
from worker.data_cache import DataCache
from worker.device import Device
from worker.ending import Exit, judge
from worker.event_file import NotAnEvent
from worker.insisting import GaveUp, Insistence
from worker.pace import Pace
from worker.preparing import Preparation
from worker.recovery import sign
from worker.reporting import Reporting
from worker.room import is_disk_full
from worker.run_directory import RunDirectory
from worker.settings import WorkerSettings
from worker.stopping import Limits, Stopping
from worker.studying import outcome_of, refused
from worker.trainer_process import TrainerGone, TrainerProcess
from worker.trainers import Trainers

log = structlog.get_logger()

_LAST_WORDS_BYTES = 4000
# News is stored at once, but not more often than this, nor than the pace allows.
_SOONEST_SECONDS = 0.05


@dataclass(frozen=True)
class Workplace:
    """What every attempt of a worker uses."""

    database: Database
    settings: WorkerSettings
    device: Device
    trainers: Trainers
    wake: threading.Event
    """Set when a trainer has news or ends, and when the worker is told to go."""
    news: threading.Event
    """Set when a trainer has written numbers."""
    shutdown: threading.Event


class Attempt:
    """Use `run` once."""

    def __init__(self, claim: Claim, place: Workplace) -> None:
        settings = place.settings
        self._claim = claim
        self._place = place
        self._directory = RunDirectory(settings.runs_dir, claim.lease.job_id, claim.lease.attempt)
        self._reporting = Reporting(
            place.database,
            claim.lease,
            self._directory.path,
            keep_periodic=claim.kind == "experiment" and bool(claim.spec.get("checkpoint", {}).get("keep_periodic")),
            owner_bytes=settings.bytes_per_owner,
            renew_seconds=settings.tick_seconds,
            on_answer=lambda answer: self._stopping.hear(answer),
        )
        self._stopping = Stopping(
            place.shutdown,
            _limits(claim, settings),
            renewed_at=lambda: self._reporting.renewed_at,
            silent_seconds=self._reporting.silent_seconds,
        )
        self._insist = Insistence(self._stopping, place.wake, place.shutdown, settings.tick_seconds)
        self._trainer: TrainerProcess | None = None
        self._ending = contextlib.ExitStack()
        self._restored: str | None = None
        self._found: dict[str, Any] = {}
        self._damaged: list[str] = []
        """Files that are not what was stored."""
        self._moved: Moved | None = None
        """How the job has moved, once it was ended with the last of what the trainer reported."""
        self._flush_at = self._flushed_at = 0.0
        self._pace = Pace(time.monotonic())

    def run(self) -> None:
        """Restore, train, store the outcome. Raises `GaveUp`; a lost lease is no error."""
        with self._directory, self._stopping, self._ending:
            sign(self._directory, self._claim.lease)
            try:
                outcome = self._outcome()
                if self._moved is None:
                    self._store(outcome)
                else:
                    _say(outcome, self._moved)
            except StaleLease:
                log.warning("lease_lost")
            except GaveUp:
                # The next worker here hands it back, if nobody has taken it by then; on a full disk, the reaper does.
                with contextlib.suppress(OSError):
                    sign(self._directory, self._claim.lease, handed_back=True)
                self._directory.keep()
                raise
            finally:
                if self._trainer is not None:
                    self._trainer.kill()
                    self._trainer.close()

    def _outcome(self) -> Outcome:
        try:
            return self._advanced(self._train())
        except NotAnEvent as error:
            return Failed("trainer_error", f"The trainer wrote a line that is no event: {error}")
        except TrainerGone:
            return Failed("trainer_not_started", "The trainers of this worker end before they are given anything.")
        except FileDamaged as error:
            self._damaged.append(error.file_id)
            return Failed("invalid_data", str(error))
        except (FileNotFound, DatasetDamaged) as error:
            return Failed("invalid_data", str(error))
        except QuotaExceeded as error:
            return Failed(QUOTA, f"{error} Delete what is not needed, and retry.")
        except OSError as error:
            if not is_disk_full(error):
                raise
            return Failed("disk_full", f"The worker's disk is full: {error.strerror}.")

    def _advanced(self, outcome: Outcome) -> Outcome:
        """Of a study, with all that has to be stored of its step."""
        if self._claim.kind != "study" or not isinstance(outcome, Concluded):
            return outcome
        limits = StoredLimits(self._place.settings.queued_per_owner)
        return outcome_of(self._claim.lease.job_id, self._found, outcome.result, limits)

    def _train(self) -> Outcome:
        place, directory = self._place, self._directory
        cache = DataCache(place.settings.runs_dir, place.database, place.settings.data_cache_bytes)
        preparation = Preparation(self._claim, directory, place.database, place.device.kind, cache)
        self._ending.callback(preparation.close)
        if not preparation.finish(self._insist, self._goes_on):
            assert self._stopping.reason is not None
            return judge(Exit(None, 0, True, ""), self._stopping.reason)
        self._restored, self._found = preparation.restored, preparation.found
        self._trainer = place.trainers.hand_over(directory.path, directory.log)
        self._stopping.watch(self._trainer)
        doing = "training" if self._claim.kind == "experiment" else "working"
        log.info(doing, pid=self._trainer.pid, resumed_from_step=preparation.restore_step)
        return self._follow(self._trainer)

    def _goes_on(self) -> bool:
        """While a checkpoint is restored: renew when that is due, and look for reasons to stop."""
        self._reporting.flush()
        self._stopping.look()
        return self._stopping.reason is None

    def _follow(self, trainer: TrainerProcess) -> Outcome:
        self._pace = Pace(time.monotonic())
        while not trainer.ended:
            self._place.wake.wait(max(0.0, self._next_flush() - time.monotonic()))
            self._place.wake.clear()
            if time.monotonic() >= self._next_flush() and not trainer.ended:
                self._flush()
        if not self._place.shutdown.is_set():
            self._place.trainers.warm_up()
        self._insist.on(self._drain)
        return self._judged(trainer)

    def _judged(self, trainer: TrainerProcess) -> Outcome:
        assert trainer.returncode is not None
        words = trainer.last_words(_LAST_WORDS_BYTES)
        end = Exit(self._reporting.last_event, trainer.returncode, trainer.was_ready, words)
        return judge(end, self._stopping.reason)

    def _next_flush(self) -> float:
        soonest = max(self._flushed_at + _SOONEST_SECONDS, self._pace.soonest())
        return min(soonest, self._flush_at) if self._place.news.is_set() else self._flush_at

    def _flush(self) -> None:
        settings = self._place.settings
        self._place.news.clear()
        began = time.thread_time()
        if self._insist.once(self._reporting.flush):
            self._pace.took(time.thread_time() - began)
            self._flushed_at = time.monotonic()
            self._flush_at = self._flushed_at + min(settings.flush_seconds, settings.tick_seconds)
        else:
            self._reporting.hold_on()
            # News cannot hurry a database that is away.
            self._flushed_at = self._flush_at = time.monotonic() + settings.tick_seconds

    def _drain(self) -> None:
        self._moved = self._reporting.drain(self._finish)

    def _finish(self, session: Session, last: Finished) -> Moved | None:
        # Whatever was asked meanwhile, and whatever became of the trainer after it.
        return work.finish_alone(session, self._claim.lease, judge(Exit(last, 0, True, ""), None))

    def _store(self, outcome: Outcome) -> None:
        def store() -> None:
            with self._place.database.write() as session:
                if self._restored is not None and _blames_the_checkpoint(outcome):
                    # Whole for us, useless for the trainer: the next attempt must not begin with it again.
                    checkpoints.give_up(session, self._claim.lease, self._restored, outcome.message)
                # And nobody else will be given these bytes, nor be spared from sending them.
                files.condemn(session, self._damaged)
                moved = work.finish(session, self._claim.lease, outcome)
            _say(outcome, moved)

        try:
            self._insist.on(store)
        except (QuotaExceeded, DatasetUnusable) as error:
            # Nothing of it is stored: the next experiments of a study had no room, or no data.
            outcome = refused(error, outcome)
            self._insist.on(store)


def _limits(claim: Claim, settings: WorkerSettings) -> Limits:
    stall = claim.spec.get("stall_seconds")
    return Limits(
        grace=settings.grace_seconds,
        lease=settings.lease_seconds,
        deadline=math.inf if claim.seconds_left is None else claim.seconds_left,
        stall=math.inf if stall is None else stall,
    )


def _blames_the_checkpoint(outcome: Outcome) -> TypeGuard[Failed]:
    return isinstance(outcome, Failed) and outcome.code == "checkpoint_damaged"


def _say(outcome: Outcome, moved: Moved) -> None:
    facts = {name: value for name, value in vars(outcome).items() if isinstance(value, str)}
    log.info("attempt_ended", ending=type(outcome).__name__.lower(), state=moved.state.value, **facts)
