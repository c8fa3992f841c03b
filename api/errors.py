"""What each refusal means over HTTP: one table from error class to status, and the handlers that use it.

Errors of the store and of this package carry a code and facts; whatever else goes wrong, in the framework too, ends as
problem JSON here.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.problems import RETRY_AFTER_SECONDS, problem
from bncore.spec import Fault, SpecError
from bncore.spec.faults import pointer_part
from store import errors as store_errors
from store.errors import StoreError

_LOG = structlog.get_logger("api")


class ApiError(Exception):
    """Something this package refuses before the store is asked."""

    code: ClassVar[str] = "api_error"


class Unauthenticated(ApiError):
    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("Send a valid API key as `Authorization: Bearer <key>`.")


class BodyTooLarge(ApiError):
    code = "body_too_large"

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__(f"The body may have at most {max_body_bytes} bytes.")
        self.max_body_bytes = max_body_bytes


class UnsupportedMediaType(ApiError):
    code = "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__("Send JSON in UTF-8, as application/json and without a content encoding.")


class IdempotencyKeyInvalid(ApiError):
    code = "idempotency_key_invalid"

    def __init__(self) -> None:
        super().__init__("An idempotency key is 1 to 255 visible ASCII characters, quoted or bare, and given once.")


STATUS: dict[type[StoreError | ApiError], int] = {
    store_errors.ExperimentNotFound: 404,
    store_errors.CheckpointNotFound: 404,
    store_errors.KeyNotFound: 404,
    store_errors.IllegalTransition: 409,
    store_errors.StaleLease: 409,
    store_errors.CheckpointIncomplete: 409,
    store_errors.CheckpointDamaged: 500,
    store_errors.VersionMismatch: 412,
    store_errors.QuotaExceeded: 429,
    store_errors.OwnerNotFound: 404,
    store_errors.IdempotencyConflict: 422,
    store_errors.CursorInvalid: 422,
    Unauthenticated: 401,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    IdempotencyKeyInvalid: 400,
}


def install(app: FastAPI) -> None:
    """Answer every error with problem JSON."""
    for refusal in (StoreError, ApiError):
        app.add_exception_handler(refusal, _refused)
    for outage in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(outage, _no_database)
    app.add_exception_handler(SpecError, _invalid_spec)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError | ApiError)
    status = STATUS[type(error)]
    facts: dict[str, Any] = {}
    faults: list[Fault] = []
    headers: dict[str, str] = {}
    match error:
        case store_errors.IllegalTransition():
            facts = {"state": error.state.value, "allowed_actions": list(error.allowed_actions)}
        case store_errors.CursorInvalid():
            faults = [Fault("/query/cursor", "Start again without a cursor.", error.code)]
        case IdempotencyKeyInvalid() | store_errors.IdempotencyConflict():
            faults = [Fault("/header/Idempotency-Key", str(error), error.code)]
        case Unauthenticated():
            headers = {"WWW-Authenticate": "Bearer"}
        case BodyTooLarge():
            facts = {"max_body_bytes": error.max_body_bytes}
        case _:
            pass
    return problem(request, status, error.code, str(error), faults=faults, facts=facts, headers=headers)


async def _invalid_spec(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError)
    detail = "The experiment cannot be run as described."
    return problem(request, 422, "invalid_spec", detail, faults=error.faults)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    if all(fault["loc"][:1] == ("path",) for fault in details):
        # An id of another form names nothing that exists.
        return problem(request, 404, "not_found", "There is nothing at this address.")
    return problem(request, 422, "invalid_parameters", "A parameter is not as it should be.", faults=_faults(details))


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


async def _no_database(request: Request, error: Exception) -> Response:
    _LOG.error("database_unavailable", error=type(error).__name__, reason=str(error.__cause__ or "")[:500])
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(request, 503, "database_unavailable", "The database does not answer; try again.", headers=headers)


async def _gone(request: Request, _error: Exception) -> Response:
    # Nobody reads this answer; without it the end of a connection would be logged as our failure.
    return problem(request, 400, "client_disconnected", "The request ended before its body did.")


async def _unexpected(request: Request, error: Exception) -> Response:
    _LOG.error("unexpected_error", exc_info=error)
    return problem(request, 500, "internal_error", "Something went wrong here; the log has it under this instance.")


def _faults(details: Sequence[Any]) -> list[Fault]:
    faults = []
    for fault in details:
        pointer = "".join(pointer_part(part) for part in fault["loc"])
        text = str(fault["msg"]).removeprefix("Input ").replace("Field required", "is required")
        if fault["type"] == "extra_forbidden":
            text = "Unknown parameter"
        faults.append(Fault(pointer, text[:1].upper() + text[1:], str(fault["type"])))
    return faults


def _allowed_methods(request: Request) -> list[str]:
    """All methods of the path: the router names only those of the first route that has it."""
    path = getattr(request.scope.get("route"), "path", None)
    app = request.app
    operations = app.openapi()["paths"].get(path, {}) if isinstance(app, FastAPI) and path else {}
    return sorted(method.upper() for method in operations)
