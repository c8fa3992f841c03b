"""What is asked of a job of any kind: to end, rest, go on, run again, be gone."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.deps import Admitted
from api.headers import job_headers, matched_versions
from api.shown import Shown
from store.jobs.wishes import By
from store.tables import Job

Row = TypeVar("Row", bound=Job)


def done(
    asked: Admitted,
    ask: Callable[[Session, By], None],
    find: Callable[[Session], Row],
    show: Callable[[Session, Row], Shown],
) -> Response:
    """The job as it is after that; 202 when its worker has yet to do something."""
    with asked.service.database.write() as session:
        ask(session, by(asked))
        row = find(session)
        shown = show(session, row)
    return answer(shown, 200 if row.desired is None else 202, job_headers(row))


def by(asked: Admitted) -> By:
    """Who asks, and of which versions."""
    return By(asked.sees, asked.caller.id, matched_versions(asked.request))
