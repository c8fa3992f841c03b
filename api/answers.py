"""Answers as ready bytes: what a route shows is validated once, when it is made, and written once.

The framework would validate and write it again; it only gets the classes, for the description of the API.
"""

from collections.abc import Mapping

from starlette.responses import Response

from api.shown import Shown


def answer(shown: Shown, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    body = shown.model_dump_json().encode()
    return Response(body, status_code=status, headers=headers, media_type="application/json")
