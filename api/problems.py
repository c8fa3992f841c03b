"""RFC 9457 problem documents: the one shape of every answer that is an error.

Invariant: nothing a client sent is repeated, except ids of the right form, and the names of unknown fields and
parameters in pointers, which are cut and escaped (`bncore.spec.faults.pointer_part`).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from bncore.spec import Fault

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


class ProblemFault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(
        description='JSON pointer (RFC 6901) into the body, "" for the whole of it; for a parameter, /query/<name>, '
        "/path/<name> or /header/<name>."
    )
    detail: str = Field(description="What would be right.")
    code: str = Field(description="For programs.")


class Problem(BaseModel):
    """RFC 9457. Some problems carry further members, as their operation says."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:bnlab:problem:invalid_spec",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "The experiment cannot be run as described.",
                "instance": "urn:uuid:0199f3a2-7f3e-7c55-9d0e-1b7a3c5d2e4f",
                "code": "invalid_spec",
                "errors": [
                    {"pointer": "/optimizer/lr", "detail": "Should be greater than 0", "code": "greater_than"},
                ],
            }
        },
    )

    type: str = Field(description="`urn:bnlab:problem:` and the code.")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="The request, as in its log line and `X-Request-Id`.")
    code: str
    errors: list[ProblemFault] = Field(default_factory=list)


def problem(
    connection: HTTPConnection,
    status: int,
    code: str,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response that says what went wrong; `facts` become members of the document."""
    request_id = connection.scope.get("state", {}).get("request_id")
    document = problem_document(status, code, detail, request_id, faults)
    return JSONResponse(
        {**(facts or {}), **document}, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def problem_document(
    status: int, code: str, detail: str, request_id: str | None, faults: Sequence[Fault] = ()
) -> dict[str, Any]:
    """The members that every problem has."""
    document: dict[str, Any] = {
        "type": f"urn:bnlab:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [vars(fault) for fault in faults],
    }
    if request_id is not None:
        document["instance"] = f"urn:uuid:{request_id}"
    return document


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of an operation, for OpenAPI."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }
