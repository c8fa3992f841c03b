"""Answers that wait until a job, a sweep or a study has changed, for those who ask for that.

Invariant: nothing is held while a request waits: neither a thread nor a connection to the database.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.deps import Admitted
from api.headers import entity_tag, none_match
from api.lanes import left
from api.parameters import Parameters
from store.experiments import Mark

MAX_WAIT_SECONDS = 60.0


class WaitQuery(Parameters):
    wait: float = Field(
        default=0.0,
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for a change: with If-None-Match until the ETag is another one (304 if it stays), "
        "without it until the job, the study, or all of a sweep, is terminal. A terminal one is answered at once.",
    )


@dataclass(frozen=True)
class Found:
    """An answer, and how far the job is that it shows."""

    version: int | str
    is_terminal: bool
    response: Response


async def found_in_time(asked: Admitted, job_id: str, read: Callable[[], Found], wait_seconds: float) -> Response:
    """What `read` finds: at once, or again after a change. Raises what it raises, and `ClientDisconnect`."""
    service, request = asked.service, asked.request
    found = await service.reads.run(read)
    if wait_seconds and not found.is_terminal and (ready := _ready(request, found.version)):
        if not await service.changes.wait(job_id, ready, wait_seconds, functools.partial(left, request)):
            raise ClientDisconnect
        found = await service.reads.run(read)
    return found.response


def _ready(request: Request, version: int | str) -> Callable[[Mark | None], bool] | None:
    """What to wait for; None when the client does not know this version yet."""
    if "if-none-match" not in request.headers:
        return lambda mark: mark is None or mark.is_terminal
    if not none_match(request, entity_tag(version)):
        return None
    return lambda mark: mark is None or mark.is_terminal or not none_match(request, entity_tag(mark.version))
