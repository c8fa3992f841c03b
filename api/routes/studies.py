"""Studies: submitted, found, followed, extended, deleted; and the claims that can be asked about."""

import functools
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.bodies import body
from api.deps import Admitted, Asked, StudyId, living_lately, living_now
from api.headers import entity_tag, if_none_match_parameter, none_match
from api.lanes import reading, writing
from api.long_poll import Found, WaitQuery, found_in_time
from api.openapi import idempotency_parameter, model_body
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.studies import Claim, Claims, Study, StudyExperiment, StudyNow
from api.shown.study_warnings import StudySubmitted
from api.shown.waiting import Living
from api.studying import stored, warnings_about
from bncore.spec.study import StudySpec
from bncore.studies.claims import CLAIMS
from store import studies, tables
from store.studies import StudyStanding

_LOG = structlog.get_logger("api")
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It is stored, and will be run",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The study."},
            "Idempotency-Replayed": {
                "schema": {"type": "string", "enum": ["true"]},
                "description": "An earlier request with this key had done it.",
            },
        },
    },
    **declared(400, 404, 413, 415),
}


class PageQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class StudiesQuery(PageQuery):
    part_of: Annotated[str, Field(pattern="^stu_[0-9a-f]{32}$")] | None = Field(
        default=None, description="Those that this article is made of; without it, those that are part of none."
    )


def mount(app: FastAPI) -> None:
    """`/studies`, one of them, and `/claims`."""
    routes = KeyedRoutes(app, "/v1/studies", "studies")
    routes.add(
        "",
        submit_study,
        methods=["POST"],
        status_code=202,
        response_model=StudySubmitted,
        responses=_ACCEPTED,
        openapi_extra={"parameters": [idempotency_parameter()], "requestBody": model_body(StudySpec)},
        summary="Ask a question",
    )
    routes.add("", list_studies, response_model=Page[Study], summary="Find them")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add(
        "/{study_id}",
        get_study,
        response_model=StudyNow,
        responses={**unchanged, **declared(404)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them, at once or on change",
    )
    routes.add(
        "/{study_id}/experiments",
        list_study_experiments,
        response_model=Page[StudyExperiment],
        responses=declared(404),
        summary="Its experiments",
    )
    routes.add(
        "/{study_id}",
        delete_study,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409),
        summary="Delete it with all its experiments",
    )
    claims = KeyedRoutes(app, "/v1/claims", "studies")
    claims.add("", list_claims, response_model=Claims, summary="What can be asked of the article")


@living_now
async def submit_study(asked: Asked, spec: Annotated[StudySpec, Depends(body(StudySpec))], living: Living) -> Response:
    """A claim of the article, all of them, or a comparison of one's own specs: paired experiments, and a verdict.

    Its experiments are submitted stage by stage, each when the one before has ended. Whatever can be known of it now
    is refused now: a claim that there is none, too few seeds, a change that makes an arm impossible. What may not be
    meant so is said in `warnings`, and changes no verdict.
    """
    study, replayed = await stored(asked, spec, living)
    row, standing = await asked.service.reads.run(functools.partial(_standing, asked, study.id))
    _LOG.info("study_submitted", study_id=row.id, claim=row.claim, replayed=replayed)
    warnings = await warnings_about(asked, row, living)
    shown = StudySubmitted.accepted(row, standing, living, warnings)
    headers = {"Location": shown.links.self_, "Retry-After": "1"}
    return answer(shown, 202, headers | ({"Idempotency-Replayed": "true"} if replayed else {}))


@living_lately
@reading
def list_studies(
    asked: Asked, query: Annotated[StudiesQuery, Depends(Reading(StudiesQuery))], living: Living
) -> Response:
    """Newest first, each with its experiments counted."""
    with asked.service.database.read() as session:
        found = studies.page(session, asked.sees, query.part_of or "", query.cursor, query.limit)
        standings = studies.standings(session, [row.id for row in found.rows])
    shown = [Study.of(row, standings[row.id], living) for row in found.rows]
    return answer(Page[Study](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@living_lately
async def get_study(
    study_id: StudyId, asked: Asked, query: Annotated[WaitQuery, Depends(Reading(WaitQuery))], living: Living
) -> Response:
    """State, stage and progress, and what was asked. The ETag changes with any of its experiments."""
    return await found_in_time(asked, study_id, functools.partial(_read, asked, study_id, living), query.wait)


@living_lately
@reading
def list_study_experiments(
    study_id: StudyId, asked: Asked, query: Annotated[PageQuery, Depends(Reading(PageQuery))], living: Living
) -> Response:
    """In the order of their submission: stage by stage, seed by seed, the arms beside one another."""
    with asked.service.database.read() as session:
        studies.get(session, study_id, owner=asked.sees)
        found = studies.members(session, study_id, query.cursor, query.limit)
    shown = [StudyExperiment.of(row, living) for row in found.rows]
    more = found.next_cursor is not None
    return answer(Page[StudyExperiment](data=shown, has_more=more, next_cursor=found.next_cursor))


@writing
def delete_study(study_id: StudyId, asked: Asked) -> Response:
    """Once all of it has ended, else 409; its experiments and verdicts are gone with it."""
    with asked.service.database.write() as session:
        studies.delete(session, studies.get(session, study_id, owner=asked.sees), by(asked))
    return Response(status_code=204)


async def list_claims() -> Response:
    """By name, in the order of the article: what it says, what the literature says, at which scales it can be asked."""
    shown = Claims(data=[Claim.of(claim) for claim in CLAIMS.values()])
    return answer(shown, headers={"Cache-Control": "private, max-age=60"})


def study_headers(row: tables.Study, standing: StudyStanding) -> dict[str, str]:
    """What an answer says that shows this study."""
    return {"ETag": entity_tag(studies.mark_of(row, standing).version), "Cache-Control": "no-cache"}


def _read(asked: Admitted, study_id: str, living: Living) -> Found:
    with asked.service.database.read() as session:
        row = studies.get(session, study_id, owner=asked.sees)
        standing = studies.standing(session, study_id)
    mark, headers = studies.mark_of(row, standing), study_headers(row, standing)
    if none_match(asked.request, headers["ETag"]):
        return Found(mark.version, mark.is_terminal, Response(status_code=304, headers=headers))
    return Found(mark.version, mark.is_terminal, answer(StudyNow.seen(row, standing, living), headers=headers))


def _standing(asked: Admitted, study_id: str) -> tuple[tables.Study, StudyStanding]:
    with asked.service.database.read() as session:
        return studies.get(session, study_id), studies.standing(session, study_id)
