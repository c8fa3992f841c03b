"""What happened to one job, of any kind: its log, and its attempts."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked
from api.kinds import EXPERIMENTS, RECORDED, Kind
from api.lanes import reading
from api.parameters import MAX_INTEGER, Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.attempts import Attempt, AttemptPage
from api.shown.events import Event, EventPage
from store import attempts
from store.jobs import eventlog


class EventQuery(Parameters):
    after: int = Field(default=0, ge=0, le=MAX_INTEGER, description="Only lines with greater numbers.")
    limit: int = Field(default=100, ge=1, le=100)


class AttemptsQuery(Parameters):
    after: int = Field(default=0, ge=0, lt=2**31, description="Only attempts with greater numbers.")
    limit: int = Field(default=20, ge=1, le=100)


def mount(app: FastAPI) -> None:
    """Under a job of each kind."""
    for kind in RECORDED:
        of = "" if kind is EXPERIMENTS else f"{kind.name}_"
        tag = "results" if kind is EXPERIMENTS else kind.tag
        routes = KeyedRoutes(app, f"{kind.path}/{{{kind.parameter}}}", tag)
        for noun, route, model, summary in (
            ("events", list_events, EventPage, "What happened"),
            ("attempts", list_attempts, AttemptPage, "Its attempts"),
        ):
            named = kind.route(route, f"list_{of}{noun}")
            routes.add(f"/{noun}", named, response_model=model, responses=declared(404), summary=summary)


@reading
def list_events(
    kind: Kind, job_id: str, asked: Asked, query: Annotated[EventQuery, Depends(Reading(EventQuery))]
) -> Response:
    """Submitted, claimed, checkpointed, restarted, ended: lines are only ever added, numbered without gaps."""
    with asked.service.database.read() as session:
        kind.get(session, job_id, owner=asked.sees)
        rows = eventlog.page(session, job_id, after=query.after, limit=query.limit + 1)
    shown = [Event.of(row) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return answer(EventPage(data=shown, has_more=more, next_cursor=shown[-1].number if more else None))


@reading
def list_attempts(
    kind: Kind, job_id: str, asked: Asked, query: Annotated[AttemptsQuery, Depends(Reading(AttemptsQuery))]
) -> Response:
    """Who tried it, on what, from which step, and how each try ended; oldest first."""
    with asked.service.database.read() as session:
        kind.get(session, job_id, owner=asked.sees)
        found = attempts.page(session, job_id, query.after, query.limit + 1)
    shown = [Attempt.of(attempt) for attempt in found[: query.limit]]
    more = len(found) > query.limit
    return answer(AttemptPage(data=shown, has_more=more, next_cursor=shown[-1].number if more else None))
