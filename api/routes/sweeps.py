"""Sweeps: submitted, extended, found, deleted."""

import functools
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.bodies import body
from api.deps import Admitted, Asked, SweepId, living_lately, living_now
from api.devices import queue_of
from api.headers import entity_tag, if_none_match_parameter, none_match
from api.lanes import reading, writing
from api.long_poll import Found, WaitQuery, found_in_time
from api.openapi import idempotency_parameter, model_body
from api.parameters import Parameters, Reading
from api.problems import declared
from api.refusals import InvalidBody
from api.routes.keyed import KeyedRoutes
from api.searching import first_trials, searchable
from api.shown import Page
from api.shown.sweep_plans import SweepSubmitted, SweepWarning
from api.shown.sweeps import Sweep, SweepExperiment, SweepNow
from api.shown.waiting import Living
from api.sweeping import Stored, stored, warnings_about
from bncore.spec import Fault
from bncore.spec.sweep import Complete, Extension, Point, SweepSpec, expand, extended, load_sweep, trial_points
from store import sweeps, tables
from store.idempotency import Scope
from store.sweeps import Rung, Standing, SweepSubmission, rungs

_LOG = structlog.get_logger("api")
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It is stored with all its experiments, which will be run",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The sweep."},
            "Idempotency-Replayed": {
                "schema": {"type": "string", "enum": ["true"]},
                "description": "An earlier request with this key had done it.",
            },
        },
    },
    **declared(400, 404, 409, 413, 415),
}


class SweepsQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def mount(app: FastAPI) -> None:
    """`/sweeps`, and one of them."""
    routes = KeyedRoutes(app, "/v1/sweeps", "sweeps")
    keyed: dict[str, Any] = {"parameters": [idempotency_parameter()]}
    routes.add(
        "",
        submit_sweep,
        methods=["POST"],
        status_code=202,
        response_model=SweepSubmitted,
        responses=_ACCEPTED,
        openapi_extra={**keyed, "requestBody": model_body(SweepSpec)},
        summary="Submit many experiments of one template",
    )
    routes.add("", list_sweeps, response_model=Page[Sweep], summary="Find them")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add(
        "/{sweep_id}",
        get_sweep,
        response_model=SweepNow,
        responses={**unchanged, **declared(404)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them",
    )
    routes.add(
        "/{sweep_id}/experiments",
        list_sweep_experiments,
        response_model=Page[SweepExperiment],
        responses=declared(404),
        summary="Its experiments",
    )
    routes.add(
        "/{sweep_id}/extend",
        extend_sweep,
        methods=["POST"],
        status_code=202,
        response_model=SweepNow,
        responses=_ACCEPTED,
        openapi_extra={**keyed, "requestBody": model_body(Extension)},
        summary="Add seeds to all its points",
    )
    routes.add(
        "/{sweep_id}",
        delete_sweep,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409),
        summary="Delete it with all its experiments",
    )


@living_now
async def submit_sweep(asked: Asked, spec: Annotated[SweepSpec, Depends(body(SweepSpec))], living: Living) -> Response:
    """Every value of each axis with every value of the others, in every arm, with every seed: at most 10,000
    experiments, all of them stored or none.

    Faults of an experiment point to the axis or arm that makes them, and name its values. Arms and points of one seed
    are paired: what the seed draws is the same in all of them. What may not be meant so is said in `warnings`.
    """

    def store(session: Session, scope: Scope | None, submission: SweepSubmission) -> Stored:
        wanted = submission.points[0].spec.resources.device
        device = queue_of(asked.service, wanted, living, session)
        where: dict[str, Any] = {"device": device, "key_id": asked.caller.id, "limits": asked.service.limits}
        if scope is None:
            return sweeps.submit(session, whole, submission, owner=asked.caller.owner, **where), False
        return sweeps.submit_once(session, scope, whole, submission, **where)

    whole, expanded = spec, functools.partial(expand, spec)
    if spec.search is not None:
        whole = await searchable(asked, spec)
        expanded = functools.partial(trial_points, whole, await first_trials(asked, whole))
    points: list[Point] = []

    def noted(complete: Complete) -> list[Point]:
        points[:] = expanded(complete)
        return points

    sweep, replayed = await stored(asked, spec, noted, store)
    about = functools.partial(warnings_about, asked, noted, points, living)
    warnings = await asked.service.bodies.run(about)
    return await _accepted(asked, sweep, replayed, warnings)


async def extend_sweep(
    sweep_id: SweepId, asked: Asked, wanted: Annotated[Extension, Depends(body(Extension))]
) -> Response:
    """The same points with more seeds, queued behind what it has; of a sweep that was pruned, those that are left.

    409 if somebody else extends it at this moment.
    """
    sweep, ended = await asked.service.reads.run(functools.partial(_extensible, asked, sweep_id))

    def more(complete: Complete) -> list[Point]:
        return extended(load_sweep(sweep.spec), sweep.seeds, wanted, complete, ended)

    def store(session: Session, scope: Scope | None, submission: SweepSubmission) -> Stored:
        where: dict[str, Any] = {"key_id": asked.caller.id, "limits": asked.service.limits}
        if scope is None:
            sweeps.extend(session, sweep, submission, **where)
            return sweep, False
        return sweeps.extend_once(session, scope, sweep, submission, **where)

    _, replayed = await stored(asked, wanted, more, store)
    return await _accepted(asked, sweep, replayed)


@reading
def list_sweeps(asked: Asked, query: Annotated[SweepsQuery, Depends(Reading(SweepsQuery))]) -> Response:
    """Newest first, each with its experiments counted."""
    with asked.service.database.read() as session:
        found = sweeps.page(session, asked.sees, query.cursor, query.limit)
        standings = {row.id: sweeps.foreseen(session, row) for row in found.rows}
    shown = [Sweep.of(row, standings[row.id]) for row in found.rows]
    return answer(Page[Sweep](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


async def get_sweep(
    sweep_id: SweepId, asked: Asked, query: Annotated[WaitQuery, Depends(Reading(WaitQuery))]
) -> Response:
    """State and progress, counted from its experiments, and what was asked. The ETag changes with any of them."""
    return await found_in_time(asked, sweep_id, functools.partial(_read, asked, sweep_id), query.wait)


@living_lately
@reading
def list_sweep_experiments(
    sweep_id: SweepId, asked: Asked, query: Annotated[SweepsQuery, Depends(Reading(SweepsQuery))], living: Living
) -> Response:
    """In the order of the sweep: seed by seed, the points in the order of the axes, the arms beside one another."""
    with asked.service.database.read() as session:
        sweeps.get(session, sweep_id, owner=asked.sees)
        found = sweeps.members(session, sweep_id, query.cursor, query.limit)
    shown = [SweepExperiment.of(row, living) for row in found.rows]
    more = found.next_cursor is not None
    return answer(Page[SweepExperiment](data=shown, has_more=more, next_cursor=found.next_cursor))


@writing
def delete_sweep(sweep_id: SweepId, asked: Asked) -> Response:
    """Once all of them have ended, else 409; they are gone with it."""
    with asked.service.database.write() as session:
        sweeps.delete(session, sweeps.get(session, sweep_id, owner=asked.sees), by(asked))
    return Response(status_code=204)


def sweep_headers(row: tables.Sweep, standing: Standing) -> dict[str, str]:
    """What an answer says that shows this sweep."""
    return {"ETag": entity_tag(sweeps.mark_of(row, standing).version), "Cache-Control": "no-cache"}


def _read(asked: Admitted, sweep_id: str) -> Found:
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        standing, coming = sweeps.foreseen(session, row), rungs.progress(session, row)
    mark, headers = sweeps.mark_of(row, standing), sweep_headers(row, standing)
    if none_match(asked.request, headers["ETag"]):
        return Found(mark.version, mark.is_terminal, Response(status_code=304, headers=headers))
    return Found(mark.version, mark.is_terminal, answer(SweepNow.seen(row, standing, coming), headers=headers))


def _extensible(asked: Admitted, sweep_id: str) -> tuple[tables.Sweep, list[int]]:
    """The sweep, and which of its points were ended. Raises `InvalidBody`."""
    with asked.service.database.read() as session:
        sweep = sweeps.get(session, sweep_id, owner=asked.sees)
        ended = list(rungs.ended(session, sweep))
    if sweep.search_state is not None:
        detail = "A search has the seeds that it was asked with: submit its best points as a sweep with more of them"
        raise InvalidBody([Fault("/seeds", detail, "is_a_search")])
    if sweep.prune_state not in (None, "done"):
        detail = "Which points go on is not decided yet, and seeds are added to those: wait until prune.state is done"
        raise InvalidBody([Fault("/seeds", detail, "is_being_pruned")])
    return sweep, ended


async def _accepted(
    asked: Admitted, sweep: tables.Sweep, replayed: bool, warnings: list[SweepWarning] | None = None
) -> Response:
    row, standing, coming = await asked.service.reads.run(functools.partial(_standing, asked, sweep.id))
    shown = SweepNow.seen(row, standing, coming)
    if warnings is not None:
        shown = SweepSubmitted(**dict(shown), warnings=warnings)
    _LOG.info("sweep_submitted", sweep_id=row.id, experiments=shown.experiments, replayed=replayed)
    headers = {"Location": shown.links.self_, "Retry-After": "1"}
    return answer(shown, 202, headers | ({"Idempotency-Replayed": "true"} if replayed else {}))


def _standing(asked: Admitted, sweep_id: str) -> tuple[tables.Sweep, Standing, list[Rung]]:
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id)
        return row, sweeps.foreseen(session, row), rungs.progress(session, row)
