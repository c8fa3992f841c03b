"""Jobs that a study is judged by, or has as parts: they stay as long as it does.

Invariant: none of them is deleted but with its study, so that what was judged can be judged again.
"""

from sqlalchemy import ColumnElement, SQLColumnExpression, literal_column, select
from sqlalchemy.orm import Session

from store.columns import core
from store.study_errors import InStudy
from store.tables import StudyJob

_MEMBER = core(StudyJob).c


def require_free(session: Session, job_id: str) -> None:
    """Raises `InStudy` for a job that a study is judged by."""
    found = session.execute(select(_MEMBER.study_id).where(_MEMBER.job_id == job_id)).scalar_one_or_none()
    if found is not None:
        raise InStudy(found)


def by_none(job_id: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Whether a job is of no study, as a condition on its id: looked up, where a join would be hashed."""
    return select(literal_column("1")).where(_MEMBER.job_id == job_id).scalar_subquery().is_(None)
