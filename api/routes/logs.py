"""What trainers print: to read, and to follow while they print it.

Invariant: an answer ends with a whole line where it has one, and says where the next one begins; following its link
`next` until there is none is reading everything.
"""

import functools
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from api.deps import Asked
from api.kinds import EXPERIMENTS, RECORDED, Kind
from api.lanes import left
from api.long_poll import MAX_WAIT_SECONDS
from api.parameters import MAX_INTEGER, Parameters, Reading
from api.problems import declared
from api.refusals import InvalidParameter
from api.routes.keyed import KeyedRoutes
from store import experiments, logs
from store.jobs.states import TERMINAL, State
from store.logs import Piece

_MOST_BYTES = 256 << 10
_MOST_LINES = 10_000
_KEPT = {ord("\n"): "\n", ord("\t"): "\t"}
# A terminal would obey them.
_SHOWN = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0))} | _KEPT


class LogsQuery(Parameters):
    attempt: int | None = Field(default=None, ge=1, lt=2**31, description="The newest, unless said.")
    after: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INTEGER,
        description="From this byte of the attempt on: `X-Next-Offset`. Else from 0.",
    )
    tail: int | None = Field(default=None, ge=1, le=_MOST_LINES, description="The last lines only; not with `after`.")
    wait: float = Field(
        default=0.0,
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for something to be printed, the attempt to end, or the next one to begin.",
    )


_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines; at most 256 KiB of them",
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "headers": {
            "X-Attempt": {"schema": {"type": "integer"}, "description": "Whose lines these are."},
            "X-Next-Offset": {"schema": {"type": "integer"}, "description": "The `after` to read on from."},
            "Link": {
                "schema": {"type": "string"},
                "description": '`<...>; rel="next"`: read on here. None at the end.',
            },
        },
    },
    **declared(404),
}


def mount(app: FastAPI) -> None:
    """Under a job of each kind."""
    for kind in RECORDED:
        name, tag = ("get_logs", "results") if kind is EXPERIMENTS else (f"get_{kind.name}_logs", kind.tag)
        KeyedRoutes(app, f"{kind.path}/{{{kind.parameter}}}", tag).add(
            "/logs",
            kind.route(get_logs, name),
            response_class=PlainTextResponse,
            responses=_LINES,
            summary="What its trainer printed",
        )


async def get_logs(
    kind: Kind,
    job_id: str,
    asked: Asked,
    query: Annotated[LogsQuery, Depends(Reading(LogsQuery))],
) -> Response:
    """Of each attempt the first and the last 512 KiB are kept; a line says where something was left out.

    To follow: get the link `next` with `&wait=30`, again and again, until an answer has none. It leads from one attempt
    to the one after it.
    """
    if query.tail is not None and query.after is not None:
        raise InvalidParameter("tail", "Not together with after")
    service = asked.service
    read = functools.partial(_read, kind, job_id, asked, query)
    found = await service.reads.run(read)
    end = time.monotonic() + query.wait
    while not found.is_news and (seconds := end - time.monotonic()) > 0:
        version = found.version
        changed = functools.partial(_has_changed, version)
        if not await service.changes.wait(job_id, changed, seconds, functools.partial(left, asked.request)):
            raise ClientDisconnect
        found = await service.reads.run(read)
        if found.version == version:
            break
    return found.response


@dataclass(frozen=True)
class _Found:
    version: int
    is_news: bool
    response: Response


def _has_changed(version: int, mark: experiments.Mark | None) -> bool:
    return mark is None or mark.version != version


def _read(kind: Kind, job_id: str, asked: Asked, query: LogsQuery) -> _Found:
    with asked.service.database.read() as session:
        row = kind.get(session, job_id, owner=asked.sees)
        attempt = query.attempt or max(1, row.attempt)
        if query.tail is not None:
            piece = logs.tail(session, job_id, attempt, query.tail, _MOST_BYTES)
            first = piece.start
        else:
            first = query.after or 0
            piece = logs.read(session, job_id, attempt, first, _MOST_BYTES)
        stored = logs.end_of(session, job_id, attempt)
    is_over = attempt < row.attempt or (attempt == row.attempt and row.state is not State.RUNNING)
    piece = piece if is_over and piece.end >= stored else _whole_lines(piece)
    is_read = piece.end >= stored
    headers = {"X-Attempt": str(attempt), "X-Next-Offset": str(piece.end)}
    place = (attempt + 1, 0) if is_over and is_read else (attempt, piece.end)
    if not (row.state in TERMINAL and is_read and attempt >= row.attempt):
        headers["Link"] = f'<{kind.path}/{job_id}/logs?attempt={place[0]}&after={place[1]}>; rel="next"'
    is_news = bool(piece.data) or attempt < row.attempt or row.state in TERMINAL
    return _Found(row.version, is_news, PlainTextResponse(_text(piece, first), headers=headers))


def _whole_lines(piece: Piece) -> Piece:
    whole = piece.data.rfind(b"\n") + 1
    return Piece(piece.data[:whole], piece.start, piece.start + whole) if whole else piece


def _text(piece: Piece, first: int) -> str:
    text = piece.data.decode(errors="replace").translate(_SHOWN)
    return f"[{piece.start - first} bytes are not kept]\n{text}" if piece.data and piece.start > first else text
