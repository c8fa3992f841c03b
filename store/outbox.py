"""Bells to be rung: written with the change that queued a row, deleted once the message is out.

The rows of `experiments` are the queue; a bell that is lost or rung twice costs a moment, never an experiment.
"""

from collections.abc import Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.models import Bell, Experiment
from store.states import State


def pending(session: Session, limit: int = 100) -> list[Bell]:
    """The oldest bells that nobody has rung."""
    return list(session.scalars(select(Bell).order_by(Bell.id).limit(limit)))


def delete(session: Session, ids: Sequence[int]) -> None:
    """Forget bells that were rung."""
    statement = delete_from(Bell).where(Bell.id.in_(ids))
    session.execute(statement, execution_options={"synchronize_session": False})


def queued_counts(session: Session) -> dict[str, int]:
    """How many experiments wait, by device; devices without any are left out."""
    statement = (
        select(Experiment.device, func.count()).where(Experiment.state == State.QUEUED).group_by(Experiment.device)
    )
    return {device: count for device, count in session.execute(statement)}


def last_claim_at(session: Session, device: str) -> float | None:
    """When the queue of a device was last claimed from, by the database's clock (`store.database.now`)."""
    statement = select(func.max(Experiment.claimed_at)).where(Experiment.device == device)
    return session.execute(statement).scalar_one()
