"""The log of an experiment."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from api.deps import ExperimentId, ReadSession
from api.parameters import MAX_INTEGER, Parameters
from api.problems import declared
from api.schemas import Event, Shown
from store import experiments
from store.jobs import eventlog


class EventQuery(Parameters):
    after: int = Field(default=0, ge=0, le=MAX_INTEGER, description="Only lines with greater numbers.")
    limit: int = Field(default=100, ge=1, le=100)


class EventPage(Shown):
    """Lines, oldest first; `next_cursor` is the `after` of the next page and null at the end.

    To follow a log, go on with the `number` of the last line you have.
    """

    data: list[Event]
    has_more: bool
    next_cursor: int | None


def router() -> APIRouter:
    """Under an experiment."""
    routes = APIRouter(prefix="/v1/experiments/{experiment_id}", tags=["results"])
    routes.add_api_route(
        "/events", list_events, response_model=EventPage, responses=declared(404, 422), summary="What happened"
    )
    return routes


def list_events(experiment_id: ExperimentId, query: Annotated[EventQuery, Query()], session: ReadSession) -> EventPage:
    """Submitted, claimed, checkpointed, restarted, ended: lines are only ever added, numbered without gaps."""
    experiments.get(session, experiment_id)
    rows = eventlog.page(session, experiment_id, after=query.after, limit=query.limit + 1)
    shown = [Event.of(row) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return EventPage(data=shown, has_more=more, next_cursor=shown[-1].number if more else None)
