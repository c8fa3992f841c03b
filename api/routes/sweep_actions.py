"""What is asked of all experiments of a sweep: to end, rest, go on, run again."""

from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.deps import Admitted, Asked, SweepId
from api.lanes import writing
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.routes.sweeps import sweep_headers
from api.shown.sweeps import SweepNow
from store import sweeps, tables
from store.jobs.wishes import By
from store.sweeps import rungs

_LOG = structlog.get_logger("api")


class RetryQuery(Parameters):
    cancelled: bool = Field(default=False, description="Those that were cancelled, too.")


def mount(app: FastAPI) -> None:
    """Under a sweep."""
    routes = KeyedRoutes(app, "/v1/sweeps/{sweep_id}", "sweeps")
    asked: dict[int | str, dict[str, Any]] = {202: {"model": SweepNow, "description": "Workers have been asked"}}
    for action, route, summary, responses in (
        ("cancel", cancel_sweep, "End all of it early", asked),
        ("pause", pause_sweep, "Stop all of it for a while", asked),
        ("resume", resume_sweep, "Let it go on", {}),
        ("retry", retry_sweep, "Run what failed again", {}),
    ):
        routes.add(
            f"/{action}",
            route,
            methods=["POST"],
            response_model=SweepNow,
            responses={**responses, **declared(404)},
            summary=summary,
        )


@writing
def cancel_sweep(sweep_id: SweepId, asked: Asked) -> Response:
    """202 while workers still have to stop some, 200 when all are at their ends; repeats change nothing."""
    return _done(asked, sweep_id, sweeps.cancel)


@writing
def pause_sweep(sweep_id: SweepId, asked: Asked) -> Response:
    """202 while workers still have to save and stop some, 200 when nothing runs. What has ended stays as it is."""
    return _done(asked, sweep_id, sweeps.pause)


@writing
def resume_sweep(sweep_id: SweepId, asked: Asked) -> Response:
    """Queue all again that rest, in the order of the sweep, and take back pauses that have not come yet."""
    limits = asked.service.limits
    return _done(asked, sweep_id, lambda session, row, who: sweeps.resume(session, row, who, limits))


@writing
def retry_sweep(
    sweep_id: SweepId, asked: Asked, query: Annotated[RetryQuery, Depends(Reading(RetryQuery))]
) -> Response:
    """Queue all that failed again: their next attempts, each from its last checkpoint."""
    limits, cancelled = asked.service.limits, query.cancelled

    def retry(session: Session, row: tables.Sweep, who: By) -> int:
        return sweeps.retry(session, row, who, limits, cancelled=cancelled)

    return _done(asked, sweep_id, retry)


def _done(asked: Admitted, sweep_id: str, ask: Callable[[Session, tables.Sweep, By], int]) -> Response:
    with asked.service.database.write() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        changed = ask(session, row, By(asked.sees, by(asked).key_id))
        row = sweeps.get(session, sweep_id)
        standing, coming = sweeps.foreseen(session, row), rungs.progress(session, row)
    _LOG.info("sweep_changed", sweep_id=sweep_id, count=changed)
    return answer(SweepNow.seen(row, standing, coming), 202 if standing.asked else 200, sweep_headers(row, standing))
