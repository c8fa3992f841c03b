"""Studies found: one by its id, those of an owner, the jobs of one, and what was judged.

Invariant: a page costs what it holds, and pages do not shift.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from store import cursors
from store.columns import core, one_of
from store.jobs.conditions import IS_VISIBLE, owned_by
from store.pages import Page
from store.study_errors import NotJudged, StudyNotFound
from store.tables import Experiment, Job, Study, StudyJob, StudyVerdict

_JOB, _STUDY, _MEMBER = core(Job).c, core(Study).c, core(StudyJob).c


@dataclass(frozen=True)
class Member:
    """An experiment of a study: where it stands, and the evaluations of it by their names."""

    experiment: Experiment
    stage: str
    arm: str
    setting: dict[str, Any]
    seed: int
    evaluations: dict[str, str]


@dataclass(frozen=True)
class Members:
    """Experiments in the order of their submission, and where the next page begins; None after the last."""

    rows: list[Member]
    next_cursor: str | None


def get(session: Session, study_id: str, *, owner: str | None = None) -> Study:
    """The study as it is now. Raises `StudyNotFound`, for deleted ones and those of others too."""
    statement = select(Study).where(Study.id == study_id, *owned_by(owner))
    found = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if found is None:
        raise StudyNotFound(study_id)
    return found


def page(
    session: Session, owner: str | None, part_of: str = "", cursor: str | None = None, limit: int = 20
) -> Page[Study]:
    """One page of an owner's (None: of all), newest first: those that are part of none, or of that one. Raises
    `CursorInvalid`."""
    scope = ["studies", owner, part_of]
    place = (_STUDY.submitted_at, _STUDY.id)
    shown = select(IS_VISIBLE).where(_JOB.id == _STUDY.id).scalar_subquery()
    statement = select(*place).where(_STUDY.part_of == part_of, shown)
    if owner is not None:
        statement = statement.where(_STUDY.submitted_by == owner)
    if cursor is not None:
        statement = statement.where(tuple_(*place) < tuple_(*cursors.decode(cursor, scope)))
    found = session.execute(statement.order_by(*(column.desc() for column in place)).limit(limit + 1)).all()
    here, more = found[:limit], len(found) > limit
    ids = [one for _, one in here]
    if not ids:
        return Page([], None)
    wanted = select(Study).where(one_of(_JOB.id, ids), one_of(_STUDY.id, ids))
    rows = {row.id: row for row in session.scalars(wanted)}
    listed = [rows[one] for one in ids if one in rows]
    return Page(listed, cursors.encode((here[-1][0], here[-1][1]), scope) if more else None)


def parts(session: Session, study_id: str) -> list[Study]:
    """Of an article, in the order of its claims."""
    ids = list(session.execute(select(_STUDY.id).where(_STUDY.part_of == study_id)).scalars())
    if not ids:
        return []
    wanted = select(Study).where(one_of(_JOB.id, ids), one_of(_STUDY.id, ids), *owned_by(None))
    return sorted(session.scalars(wanted), key=lambda row: row.id)


def members(session: Session, study_id: str, cursor: str | None = None, limit: int = 20) -> Members:
    """One page of a study's experiments. Raises `CursorInvalid`."""
    scope = ["study members", study_id]
    shown = select(IS_VISIBLE).where(_JOB.id == _MEMBER.job_id).scalar_subquery()
    alone = (_MEMBER.study_id == study_id, _MEMBER.arm.is_not(None), _MEMBER.of_experiment.is_(None))
    statement = select(core(StudyJob)).where(*alone, shown)
    if cursor is not None:
        statement = statement.where(_MEMBER.place > int(cursors.decode(cursor, scope)[0]))
    found = session.execute(statement.order_by(_MEMBER.place).limit(limit + 1)).all()
    here, more = found[:limit], len(found) > limit
    ids = [row.job_id for row in here]
    if not ids:
        return Members([], None)
    wanted = select(Experiment).where(one_of(_JOB.id, ids), one_of(core(Experiment).c.id, ids))
    rows = {row.id: row for row in session.scalars(wanted)}
    named = _evaluations(session, ids)
    listed = [
        Member(rows[row.job_id], row.stage, row.arm, row.setting, row.seed, named.get(row.job_id, {}))
        for row in here
        if row.job_id in rows
    ]
    return Members(listed, cursors.encode((float(here[-1].place), here[-1].job_id), scope) if more else None)


def verdict(session: Session, study_id: str, number: int | None = None) -> StudyVerdict:
    """What was judged last, or as that number. Raises `NotJudged`."""
    last = select(func.max(StudyVerdict.number)).where(StudyVerdict.study_id == study_id).scalar_subquery()
    which = StudyVerdict.number == (last if number is None else number)
    found = session.scalars(select(StudyVerdict).where(StudyVerdict.study_id == study_id, which)).one_or_none()
    if found is None:
        raise NotJudged(study_id)
    return found


def _evaluations(session: Session, experiment_ids: list[str]) -> dict[str, dict[str, str]]:
    named: dict[str, dict[str, str]] = {}
    wanted = select(_MEMBER.of_experiment, _MEMBER.evaluation, _MEMBER.job_id)
    for experiment_id, name, job_id in session.execute(wanted.where(one_of(_MEMBER.of_experiment, experiment_ids))):
        named.setdefault(experiment_id, {})[name] = job_id
    return named
