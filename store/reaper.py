"""Moving on the experiments whose worker vanished.

Invariant: only an expired lease is reaped, and whether it is expired is decided again inside the UPDATE, so a renewal
that comes first wins. When reaping is safe at all (after an outage it is not) is the caller's to know.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import clock
from store.models import Experiment
from store.states import State
from store.transitions import Failure, leave_running

_LOST = Failure("worker_lost", "The worker stopped renewing its lease.")


@dataclass(frozen=True)
class Reaped:
    """An experiment that was moved on, and where to."""

    experiment_id: str
    attempt: int
    state: State


def reap(session: Session) -> list[Reaped]:
    """Move every running experiment with an expired lease on: to what was asked of it, its queue, or `failed`."""
    expired = (Experiment.state == State.RUNNING, Experiment.lease_expires_at < clock())
    statement = select(Experiment).where(*expired).order_by(Experiment.id).with_for_update(skip_locked=True)
    reaped = []
    for row in session.scalars(statement, execution_options={"populate_existing": True}).all():
        moved = leave_running(session, row, *expired, Experiment.lease_token == row.lease_token, failure=_LOST)
        if moved is not None:
            reaped.append(Reaped(moved.id, moved.attempt, moved.state))
    return reaped
