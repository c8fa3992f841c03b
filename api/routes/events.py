"""The log of an experiment."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId
from api.lanes import reading
from api.parameters import MAX_INTEGER, Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.events import Event, EventPage
from store import experiments
from store.jobs import eventlog


class EventQuery(Parameters):
    after: int = Field(default=0, ge=0, le=MAX_INTEGER, description="Only lines with greater numbers.")
    limit: int = Field(default=100, ge=1, le=100)


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    routes.add("/events", list_events, response_model=EventPage, responses=declared(404), summary="What happened")


@reading
def list_events(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[EventQuery, Depends(Reading(EventQuery))],
) -> Response:
    """Submitted, claimed, checkpointed, restarted, ended: lines are only ever added, numbered without gaps."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        return answer(events_of(session, experiment_id, query))


def events_of(session: Session, job_id: str, query: EventQuery) -> EventPage:
    """A page of the log of a job that the caller may see."""
    rows = eventlog.page(session, job_id, after=query.after, limit=query.limit + 1)
    shown = [Event.of(row) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return EventPage(data=shown, has_more=more, next_cursor=shown[-1].number if more else None)
