"""Answers as ready bytes: what a route shows is validated once, when it is made, and written once.

The framework would validate and write it again; it only gets the classes, for the description of the API.
"""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from api.headers import none_match
from api.shown import Shown


def answer(shown: Shown, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    body = shown.model_dump_json().encode()
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def answer_unless_known(request: Request, headers: Mapping[str, str], shown: Callable[[], Shown]) -> Response:
    """304 when the client has what the ETag among `headers` names, and then nothing is made."""
    if none_match(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return answer(shown(), headers=headers)
