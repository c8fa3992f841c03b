"""Studies that wait for nothing any more are queued.

Invariant: whoever ends a job looks at its study once the study's row is theirs, and whoever lets a study rest looks
while it is theirs: of the two one sees what the other did. What ends jobs in another way (a wish, the reaper) leaves it
to the relay, which looks at all that wait.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, bindparam, literal_column, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.jobs import turns
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.eventlog import Entry
from store.jobs.moves import move
from store.jobs.states import TERMINAL, State
from store.tables import Job, Study, StudyJob

_JOB, _STUDY, _MEMBER = core(Job).c, core(Study).c, core(StudyJob).c
_LIVING = still_in_state(*(frozenset(State) - TERMINAL))
_ONE: ColumnElement[int] = literal_column("1")
_AT_ONCE = 100
_WAITING = select(_MEMBER.study_id).where(_MEMBER.job_id == bindparam("of_job"))


def of_job(session: Session, job_id: str) -> str | None:
    """The study that waits for a job, or did."""
    return session.execute(_WAITING, {"of_job": job_id}).scalar_one_or_none()


def due(session: Session) -> Sequence[str]:
    """Some of those that wait for nothing any more."""
    wanted = select(_STUDY.id).where(_STUDY.waiting.is_(True), _STUDY.held.is_(False), ~_has_living())
    return session.execute(wanted.order_by(_STUDY.id).limit(_AT_ONCE)).scalars().all()


def wake(session: Session, study_ids: Collection[str]) -> int:
    """Queue those of some that wait for nothing any more; how many."""
    return sum(_wake(session, study_id) for study_id in sorted(study_ids))


def has_living(session: Session, study_id: str) -> bool:
    """Whether anything that it waits for has not ended."""
    return session.execute(select(_STUDY.id).where(_STUDY.id == study_id, _has_living())).first() is not None


def _wake(session: Session, study_id: str) -> bool:
    rests = (_JOB.id == study_id, still_in_state(State.PAUSED), *owned_by(None))
    mine = select(_JOB.owner, _JOB.queue, _JOB.priority).where(*rests).with_for_update()
    place = session.execute(mine).one_or_none()
    waits = (_STUDY.id == study_id, _STUDY.waiting.is_(True), _STUDY.held.is_(False), ~_has_living())
    if place is None or session.execute(select(_STUDY.id).where(*waits)).first() is None:
        return False
    turn, _ = turns.next_turn(session, *place)
    entry = Entry("resumed", "All that it waited for has ended.")
    moved = move(session, study_id, State.QUEUED, lambda _: entry, still_in_state(State.PAUSED), turn=turn)
    session.execute(update(core(Study)).where(_STUDY.id == study_id).values(waiting=False))
    return moved is not None


def _has_living() -> ColumnElement[bool]:
    """Of a study's jobs by its index, and each of them by its id: what could be joined would be hashed."""
    alive = select(_ONE).where(_JOB.id == _MEMBER.job_id, _LIVING, *owned_by(None)).scalar_subquery()
    mine = select(_ONE).where(_MEMBER.study_id == _STUDY.id, alive.is_not(None)).limit(1)
    return mine.scalar_subquery().is_not(None)
