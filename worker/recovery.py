"""Jobs of workers of this host that are gone: given back at once, not after a whole lease.

Invariant: only what the token of a lease allows is done. The token lies in the run directory, readable by this user
alone; a directory whose supervisor's lock is free belongs to nobody.
"""

import json
import os
from pathlib import Path

import structlog

from bncore.run_directory import RunLayout
from store import work
from store.database import Database
from store.errors import StaleLease
from store.jobs.leases import Lease
from store.work import Failed, Outcome, Released
from worker.outage import OUTAGE, in_a_line

log = structlog.get_logger()

_LOST = Failed("worker_lost", "The worker ended, and another one on its host found what it left.")


def sign(layout: RunLayout, lease: Lease, *, handed_back: bool = False) -> None:
    """Leave the lease in a run directory; `handed_back` says that the worker went because it was told to."""
    text = json.dumps({**vars(lease), "handed_back": handed_back})
    draft = _lease(layout).with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(_lease(layout))


def give_back(database: Database, layout: RunLayout) -> None:
    """Move the job of an abandoned run directory on, if nobody has done so yet."""
    try:
        signed = json.loads(_lease(layout).read_bytes())
        outcome: Outcome = Released() if signed.pop("handed_back") else _LOST
        lease = Lease(**signed)
    except (OSError, ValueError, TypeError, KeyError):
        return  # from before there were signatures, or not yet signed
    try:
        with database.write() as session:
            state = work.finish(session, lease, outcome).state
    except StaleLease:
        return
    except OUTAGE as error:
        log.warning("give_back_failed", error=in_a_line(error))
        return
    log.info("given_back", job_id=lease.job_id, attempt=lease.attempt, state=state.value)


def _lease(layout: RunLayout) -> Path:
    return layout.path / "lease.json"
