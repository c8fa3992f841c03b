"""What each refusal means over HTTP: one table from error class to status, and the handlers that use it.

Errors of the store and of this package carry a code and facts; so do the framework's. What nobody foresaw goes on to
`api.edge`, which knows the request's line in the log.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api import near
from api.lanes import DatabaseSilent, LaneBusy
from api.outages import UNUSABLE, is_outage
from api.problems import RETRY_AFTER_SECONDS, problem
from api.refusals import (
    ApiError,
    AsideBusy,
    AsideLost,
    AsideRefused,
    BodyTooLarge,
    DigestMismatch,
    DigestRequired,
    FigureNotFound,
    Forbidden,
    IdempotencyKeyInvalid,
    InvalidBody,
    InvalidParameter,
    LengthRequired,
    NoAnswerInTime,
    PredictionFailed,
    RangeNotSatisfiable,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)
from bncore.spec import Fault, SpecError
from bncore.spec.faults import MAX_FAULTS, pointer_part
from bncore.spec.wording import worded
from store import errors as store_errors
from store import study_errors, upload_errors
from store.errors import StoreError
from store.unmigrated import is_unmigrated

_LOG = structlog.get_logger("api")


QUEUE_RETRY_SECONDS = 30
"""A queue that is full of one owner's jobs empties no faster than they are trained."""

STATUS: dict[type[StoreError | ApiError], int] = {
    store_errors.JobNotFound: 404,
    store_errors.DatasetUnusable: 422,
    store_errors.DatasetInUse: 409,
    store_errors.DatasetDamaged: 410,
    upload_errors.UploadConflict: 409,
    upload_errors.UploadTooLarge: 413,
    upload_errors.UploadMismatch: 422,
    store_errors.CheckpointNotFound: 404,
    store_errors.SweepNotFound: 404,
    store_errors.SweepChanged: 409,
    study_errors.InStudy: 409,
    study_errors.NotJudged: 409,
    study_errors.NotExtensible: 409,
    store_errors.KeyNotFound: 404,
    store_errors.KeyEnded: 409,
    store_errors.BeyondGrant: 403,
    store_errors.IllegalTransition: 409,
    store_errors.StaleLease: 409,
    store_errors.CheckpointDamaged: 410,
    store_errors.DiagnosticNotFound: 404,
    store_errors.FileNotFound: 404,
    store_errors.FileIncomplete: 409,
    store_errors.FileDamaged: 410,
    store_errors.VersionMismatch: 412,
    store_errors.QuotaExceeded: 429,
    store_errors.OwnerNotFound: 404,
    store_errors.IdempotencyConflict: 422,
    store_errors.CursorInvalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    TooManyRequests: 429,
    InvalidBody: 422,
    InvalidParameter: 422,
    BodyTooLarge: 413,
    LengthRequired: 411,
    DigestRequired: 400,
    DigestMismatch: 422,
    UnsupportedMediaType: 415,
    IdempotencyKeyInvalid: 400,
    RangeNotSatisfiable: 416,
    NoAnswerInTime: 504,
    PredictionFailed: 503,
    FigureNotFound: 404,
    AsideBusy: 503,
    AsideLost: 503,
    AsideRefused: 422,
}


def install(app: FastAPI) -> None:
    """Answer every error with problem JSON."""
    for refusal in (StoreError, ApiError):
        app.add_exception_handler(refusal, _refused)
    for trouble in (SQLAlchemyError, DatabaseSilent):
        app.add_exception_handler(trouble, _database_trouble)
    app.add_exception_handler(SpecError, _invalid_spec)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError | ApiError)
    if isinstance(error, store_errors.DatasetUnusable):
        return await _invalid_spec(request, SpecError([Fault("/data/id", str(error), error.code)]))
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, store_errors.QuotaExceeded) and not error.passes:
        status = 403
    faults, facts, headers, detail = _faults_of(error), _facts_of(error), _headers_of(error), str(error)
    if isinstance(error, store_errors.ExperimentNotFound):
        more, facts = await near.hint(request, error.job_id)
        detail = f"{detail.removesuffix('.')}{more}."
    return problem(request, status, error.code, detail, faults=faults, facts=facts, headers=headers)


def _faults_of(error: StoreError | ApiError) -> list[Fault]:
    match error:
        case store_errors.CursorInvalid():
            return [Fault("/query/cursor", "Start again without a cursor.", error.code)]
        case IdempotencyKeyInvalid() | store_errors.IdempotencyConflict():
            return [Fault("/header/Idempotency-Key", str(error), error.code)]
        case upload_errors.UploadMismatch():
            return [Fault("/sha256", f"What has come has {error.found}", error.code)]
        case ApiError():
            return list(error.faults)
        case _:
            return []


def _facts_of(error: StoreError | ApiError) -> dict[str, Any]:
    match error:
        case store_errors.IllegalTransition():
            return {"state": error.state.value, "allowed_actions": list(error.allowed_actions)}
        case store_errors.QuotaExceeded():
            return {"what": error.what, "limit": error.limit}
        case store_errors.DatasetInUse():
            return {"used_by": error.used_by}
        case study_errors.InStudy():
            return {"study_id": error.study_id}
        case upload_errors.PartsMissing():
            return {"missing": error.numbers}
        case ApiError():
            return error.facts
        case _:
            return {}


def _headers_of(error: StoreError | ApiError) -> dict[str, str]:
    match error:
        case store_errors.VersionMismatch():
            return {"ETag": f'"{error.version}"'}
        case store_errors.QuotaExceeded() if error.passes:
            return {"Retry-After": str(QUEUE_RETRY_SECONDS)}
        case ApiError():
            return error.headers
        case _:
            return {}


async def _invalid_spec(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError)
    detail = "The experiment cannot be run as described."
    return problem(request, 422, "invalid_spec", detail, faults=error.faults)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    if all(fault["loc"][:1] == ("path",) for fault in details):
        # An id of another form names nothing that exists.
        wanted = request.path_params.get("experiment_id")
        if wanted is None or ("path", "experiment_id") not in [fault["loc"] for fault in details]:
            return problem(request, 404, "not_found", f"There is nothing at this address{_form(details[0])}.")
        more, facts = await near.hint(request, wanted)
        return problem(request, 404, "not_found", f"{near.FORM}{more}.", facts=facts)
    return problem(request, 422, "invalid_parameters", "A parameter is not as it should be.", faults=_faults(details))


def _form(fault: Any) -> str:
    """What would be right, of a part of an address that is wrong by its form alone."""
    pattern = fault.get("ctx", {}).get("pattern")
    return f"; {fault['loc'][1].removesuffix('_id')} is of the form {pattern}" if pattern else ""


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return problem(request, 404, "not_found", "There is nothing at this address.")
        case 405:
            allowed = _allowed_methods(request)
            headers |= {"Allow": ", ".join(allowed)} if allowed else {}
            detail = "This address does not answer that method."
            return problem(request, 405, "method_not_allowed", detail, headers=headers)
        case status:
            phrase = HTTPStatus(status).phrase
            return problem(request, status, phrase.lower().replace(" ", "_"), phrase, headers=headers)


async def _database_trouble(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if isinstance(error, LaneBusy):
        _LOG.warning("overloaded")
        return problem(request, 503, "overloaded", "Too much is asked at once; try again.", headers=headers)
    if is_unmigrated(error):
        _LOG.error("database_unusable", error=type(error).__name__, reason=str(error.__cause__ or "")[:500])
        return problem(request, 503, "database_unusable", UNUSABLE, headers=headers)
    if not is_outage(error):
        raise error
    _LOG.error("database_unavailable", error=type(error).__name__, reason=str(error.__cause__ or "")[:500])
    return problem(request, 503, "database_unavailable", "The database does not answer; try again.", headers=headers)


def _faults(details: Sequence[Any]) -> list[Fault]:
    faults = []
    for fault in details[:MAX_FAULTS]:
        pointer = "".join(pointer_part(part) for part in fault["loc"])
        text = "Unknown parameter" if fault["type"] == "extra_forbidden" else worded(fault)
        faults.append(Fault(pointer, text, str(fault["type"])))
    return faults


def _allowed_methods(request: Request) -> list[str]:
    """All methods of the path: the router names only those of the first route that has it."""
    path = getattr(request.scope.get("route"), "path", None)
    app = request.app
    operations = app.openapi()["paths"].get(path, {}) if isinstance(app, FastAPI) and path else {}
    allowed = {method.upper() for method in operations}
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)
