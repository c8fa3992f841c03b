"""What is asked of one job, of any kind: to end, rest, go on, run again."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import done
from api.deps import Asked, living_lately
from api.headers import if_match_parameter
from api.kinds import KINDS, Kind
from api.lanes import writing
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.waiting import Living
from store import queueing
from store.jobs import wishes
from store.jobs.wishes import By


def mount(app: FastAPI) -> None:
    """Under a job of each kind."""
    for kind in KINDS:
        routes = KeyedRoutes(app, kind.path, kind.tag)
        asked: dict[int | str, dict[str, Any]] = {202: {"model": kind.model, "description": "A worker has been asked"}}
        for action, route, summary, responses in (
            ("cancel", cancel, "End it early", {**asked, **declared(404, 412)}),
            ("kill", kill, "End it without a moment to save", {**asked, **declared(404, 412)}),
            ("pause", pause, "Stop it for a while", {**asked, **declared(404, 409, 412)}),
            ("resume", resume, "Let it go on", declared(404, 409, 412)),
            ("retry", retry, "Run it again", declared(404, 409, 412)),
        ):
            routes.add(
                f"/{{{kind.parameter}}}/{action}",
                kind.route(route, f"{action}_{kind.name}"),
                methods=["POST"],
                response_model=kind.model,
                responses=responses,
                openapi_extra={"parameters": [if_match_parameter()]},
                summary=summary,
            )


@living_lately
@writing
def cancel(kind: Kind, job_id: str, asked: Asked, living: Living) -> Response:
    """202 while a worker still has to stop it, 200 when it is at its end; repeats change nothing.

    One that is done before the worker hears of it succeeds.
    """
    return _done(kind, job_id, asked, living, lambda session, by: wishes.ask(session, job_id, "cancel", by))


@living_lately
@writing
def kill(kind: Kind, job_id: str, asked: Asked, living: Living) -> Response:
    """Like cancel, and also after it, but a running trainer is given no time to save what it has reached."""
    return _done(kind, job_id, asked, living, lambda session, by: wishes.ask(session, job_id, "kill", by))


@living_lately
@writing
def pause(kind: Kind, job_id: str, asked: Asked, living: Living) -> Response:
    """202 while a worker still has to save and stop it, 200 when it rests; 409 at its end.

    Its deadline stands still meanwhile. One that is being cancelled goes on being cancelled.
    """
    return _done(kind, job_id, asked, living, lambda session, by: wishes.ask(session, job_id, "pause", by))


@living_lately
@writing
def resume(kind: Kind, job_id: str, asked: Asked, living: Living) -> Response:
    """Queue it again after a pause, or take back a pause that has not come yet; 409 at its end."""
    limits = asked.service.limits
    return _done(kind, job_id, asked, living, lambda session, by: queueing.resume(session, job_id, by, limits))


@living_lately
@writing
def retry(kind: Kind, job_id: str, asked: Asked, living: Living) -> Response:
    """Queue it again after it failed or was cancelled, else 409: its next attempt, restarts and deadline counted anew.

    An experiment goes on from its last checkpoint; an import or evaluation begins anew. An import that failed because
    of what was uploaded is a 409: that is not kept.
    """
    limits = asked.service.limits
    return _done(kind, job_id, asked, living, lambda session, by: kind.retry(session, job_id, by, limits))


def _done(kind: Kind, job_id: str, asked: Asked, living: Living, ask: Callable[[Session, By], None]) -> Response:
    return done(
        asked,
        ask,
        lambda session: kind.get(session, job_id, owner=asked.sees),
        lambda session, row: kind.show(session, row, living),
    )
