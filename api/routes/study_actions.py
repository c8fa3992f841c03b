"""What is asked of a study and of all its experiments: to end, rest, go on, run again, grow."""

from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.bodies import body
from api.deps import Admitted, Asked, StudyId, living_lately
from api.headers import idempotency_key
from api.lanes import writing
from api.openapi import idempotency_parameter, model_body
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.routes.studies import study_headers
from api.shown.studies import StudyNow
from api.shown.waiting import Living
from bncore.spec.study import StudyExtension
from store import studies, tables
from store.idempotency import Scope
from store.jobs.wishes import By

_LOG = structlog.get_logger("api")


class RetryQuery(Parameters):
    cancelled: bool = Field(
        default=False, description="Experiments that were cancelled, too; of a cancelled study they always are."
    )


def mount(app: FastAPI) -> None:
    """Under a study."""
    routes = KeyedRoutes(app, "/v1/studies/{study_id}", "studies")
    asked: dict[int | str, dict[str, Any]] = {202: {"model": StudyNow, "description": "Workers have been asked"}}
    for action, route, summary, responses in (
        ("cancel", cancel_study, "End all of it early", asked),
        ("pause", pause_study, "Stop all of it for a while", asked),
        ("resume", resume_study, "Let it go on", {}),
        ("retry", retry_study, "Run what failed again", {}),
    ):
        routes.add(
            f"/{action}",
            route,
            methods=["POST"],
            response_model=StudyNow,
            responses={**responses, **declared(404, 409)},
            summary=summary,
        )
    routes.add(
        "/extend",
        extend_study,
        methods=["POST"],
        status_code=202,
        response_model=StudyNow,
        responses=declared(400, 404, 409, 413, 415),
        openapi_extra={"parameters": [idempotency_parameter()], "requestBody": model_body(StudyExtension)},
        summary="Have it judged with more seeds",
    )


@living_lately
@writing
def cancel_study(study_id: StudyId, asked: Asked, living: Living) -> Response:
    """202 while workers still have to stop some, 200 when all are at their ends; repeats change nothing."""
    return _done(asked, study_id, living, studies.cancel)


@living_lately
@writing
def pause_study(study_id: StudyId, asked: Asked, living: Living) -> Response:
    """202 while workers still have to save and stop some, 200 when nothing runs; 409 at its end."""
    return _done(asked, study_id, living, studies.pause)


@living_lately
@writing
def resume_study(study_id: StudyId, asked: Asked, living: Living) -> Response:
    """Queue all of it again that rests, and take back pauses that have not come yet."""
    limits = asked.service.limits
    return _done(asked, study_id, living, lambda session, row, who: studies.resume(session, row, who, limits))


@living_lately
@writing
def retry_study(
    study_id: StudyId, asked: Asked, query: Annotated[RetryQuery, Depends(Reading(RetryQuery))], living: Living
) -> Response:
    """Queue all experiments that failed again, and the study if it did; it is judged anew when they have ended.

    With the same pairs that is no other look at them.
    """
    limits, cancelled = asked.service.limits, query.cancelled

    def retry(session: Session, row: tables.Study, who: By) -> int:
        return studies.retry(session, row, who, limits, cancelled=cancelled)

    return _done(asked, study_id, living, retry)


@living_lately
@writing
def extend_study(
    study_id: StudyId,
    asked: Asked,
    wanted: Annotated[StudyExtension, Depends(body(StudyExtension))],
    living: Living,
) -> Response:
    """More seeds, once it was judged: it is judged again with all of them, which counts as another look.

    409 before it was judged, and beyond `most`, which was fixed before it was first judged. The article that it is a
    part of is judged again, too.
    """
    key, path = idempotency_key(asked.request), asked.request.url.path
    scope = None if key is None else Scope(owner=asked.caller.owner, method="POST", path=path, key=key)
    with asked.service.database.write() as session:
        row = studies.get(session, study_id, owner=asked.sees)
        who = By(asked.sees, by(asked).key_id)
        replayed = studies.extend_once(session, scope, row, wanted, who, asked.service.limits)
    answered = _shown(asked, study_id, living, 202)
    if replayed:
        answered.headers["Idempotency-Replayed"] = "true"
    return answered


def _done(asked: Admitted, study_id: str, living: Living, ask: Callable[[Session, tables.Study, By], int]) -> Response:
    with asked.service.database.write() as session:
        row = studies.get(session, study_id, owner=asked.sees)
        changed = ask(session, row, By(asked.sees, by(asked).key_id))
    _LOG.info("study_changed", study_id=study_id, count=changed)
    return _shown(asked, study_id, living, None)


def _shown(asked: Admitted, study_id: str, living: Living, status: int | None) -> Response:
    with asked.service.database.read() as session:
        row = studies.get(session, study_id)
        standing = studies.standing(session, study_id)
    is_asked = bool(standing.experiments.asked or row.desired)
    headers = study_headers(row, standing)
    return answer(StudyNow.seen(row, standing, living), status or (202 if is_asked else 200), headers)
