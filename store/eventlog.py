"""The log of an experiment: what happened to it, line by line.

Invariant: lines are only added, numbered 1, 2, 3, ... in the order of their commits. The number is taken from the
experiment's row, whose lock every writer holds, so a reader that asks for lines after n never misses one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from store.database import clock
from store.models import Experiment, ExperimentEvent
from store.text import finite_json, storable


@dataclass(frozen=True)
class Entry:
    """A line to add. `trainer_at` marks one that the trainer wrote, which is stored once however often it comes."""

    kind: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    trainer_at: float | None = None


def append(session: Session, experiment_id: str, attempt: int, entries: Sequence[Entry]) -> None:
    """Add lines to the log; counts as a visible change of the experiment."""
    fresh = _not_yet_stored(session, experiment_id, attempt, entries)
    if not fresh:
        return
    statement = (
        update(Experiment)
        .where(Experiment.id == experiment_id)
        .values(last_event=Experiment.last_event + len(fresh), version=Experiment.version + 1)
        .returning(Experiment.last_event)
    )
    newest = session.execute(statement, execution_options={"synchronize_session": False}).scalar_one()
    for number, entry in enumerate(fresh, newest - len(fresh) + 1):
        row = {
            "experiment_id": experiment_id,
            "number": number,
            "attempt": attempt,
            "kind": entry.kind,
            "message": storable(entry.message),
            "data": finite_json(entry.data),
            "at": clock(),
            "trainer_at": entry.trainer_at,
        }
        session.execute(insert(ExperimentEvent).values(row))


def page(session: Session, experiment_id: str, after: int = 0, limit: int = 100) -> list[ExperimentEvent]:
    """Up to `limit` lines with numbers above `after`, oldest first."""
    statement = (
        select(ExperimentEvent)
        .where(ExperimentEvent.experiment_id == experiment_id, ExperimentEvent.number > after)
        .order_by(ExperimentEvent.number)
        .limit(limit)
    )
    return list(session.scalars(statement))


def _not_yet_stored(session: Session, experiment_id: str, attempt: int, entries: Sequence[Entry]) -> list[Entry]:
    times = [entry.trainer_at for entry in entries if entry.trainer_at is not None]
    if not times:
        return list(entries)
    statement = select(ExperimentEvent.kind, ExperimentEvent.trainer_at).where(
        ExperimentEvent.experiment_id == experiment_id,
        ExperimentEvent.attempt == attempt,
        ExperimentEvent.trainer_at.in_(times),
    )
    stored = {(kind, at) for kind, at in session.execute(statement)}
    return [entry for entry in entries if (entry.kind, entry.trainer_at) not in stored]
