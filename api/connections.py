"""One client's connection: what it may take its time with, and how it is told that it took too long.

This module and `api.server` know what is private in uvicorn; `tests/api/test_uvicorn.py` says when that changes.
Invariant: silence holds no connection. The first byte, a head, a body and the taking of an answer have deadlines, seen
to by one sweep over all connections; whatever is not HTTP, or can be read in two ways, ends its connection.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httptools
import structlog
from uuid_utils import uuid7
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, problem_document

_LOG = structlog.get_logger("api")

_MAX_HEAD_BYTES = 65_536
_MAX_PIPELINED = 16
_MIN_PIECE_BYTES = 16
_FREE_PIECES = 1024
"""Pieces of a body may be small in the beginning; a megabyte in pieces of one byte would be a million calls."""


@dataclass(frozen=True)
class Limits:
    """What a connection may do; `api.settings` says what each means."""

    connections: int
    first_byte_seconds: float
    head_seconds: float
    body_seconds: float
    min_body_rate: float
    stall_seconds: float


class _Waits(Enum):
    """What the connection waits for."""

    FIRST_BYTE = auto()
    HEAD = auto()
    BODY = auto()
    NOTHING = auto()
    """A request is whole: for its answer, or for the next one, which uvicorn's own timer limits."""


class _Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


_NOT_HTTP = _Refused(400, "invalid_http", "This is not a valid HTTP/1.1 request.")
_AMBIGUOUS = _Refused(400, "invalid_http", "Where this request ends can be read in two ways.")
_NO_HOST = _Refused(400, "invalid_http", "A request names its host, once.")
_HEAD_TOO_LARGE = _Refused(431, "head_too_large", f"Request line and headers may have {_MAX_HEAD_BYTES} bytes.")
_TOO_SLOW = _Refused(408, "request_timeout", "The request did not come in time.")
_PIECES_TOO_SMALL = _Refused(400, "invalid_http", "The body comes in too many small pieces.")
_TOO_MANY_AT_ONCE = _Refused(400, "invalid_http", "Too many requests were sent before the answer to the first.")
BUSY = _Refused(503, "too_many_connections", "All connections are taken; try again.")


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with deadlines and with problem documents for what is no request."""

    def __init__(self, limits: Limits, count_refused: Callable[[], None], **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._limits = limits
        self._count_refused = count_refused
        self._waits = _Waits.FIRST_BYTE
        self._since = self.loop.time()
        self._head_bytes = 0
        self._body_bytes = 0
        self._pieces = 0
        self._refusal: _Refused | None = None
        self._unsent = 0
        self._unsent_since = self._since

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self._limits.connections:
            self.transport = transport
            self._count_refused()
            self._end(BUSY)
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._waits in (_Waits.FIRST_BYTE, _Waits.NOTHING):
            self._wait(_Waits.HEAD)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.refuse(self._refusal or _NOT_HTTP)
            return
        except httptools.HttpParserUpgrade:
            # The parser reads no further; the request itself is answered as any other.
            if self.cycle is not None:
                self.cycle.keep_alive = False
        if self._waits is _Waits.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.refuse(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (it may repeat what was sent)
        self.refuse(_NOT_HTTP)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait(_Waits.HEAD)
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse_in_parser(_TOO_MANY_AT_ONCE)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse_in_parser(_HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        names = [name for name, _ in self.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            # RFC 9112, 6.3: an attempt at request smuggling.
            self._refuse_in_parser(_AMBIGUOUS)
        if names.count(b"host") != 1 and self.parser.get_http_version() == "1.1":
            self._refuse_in_parser(_NO_HOST)
        super().on_headers_complete()
        self._wait(_Waits.BODY)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._pieces += 1
        if self._pieces > _FREE_PIECES + self._body_bytes // _MIN_PIECE_BYTES:
            self._refuse_in_parser(_PIECES_TOO_SMALL)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._wait(_Waits.NOTHING)

    def sweep(self, now: float) -> None:
        """End the connection if it has let a deadline pass."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._limits.stall_seconds:
            self.transport.abort()
            return
        if now - self._since > self._seconds_allowed() and not self.transport.is_closing():
            if self._waits is _Waits.FIRST_BYTE:
                self.transport.close()
            else:
                self.refuse(_TOO_SLOW)

    def refuse(self, refusal: _Refused) -> None:
        """Say so, unless an answer is under way, and end the connection."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._end(refusal)
            return
        begun = cycle.response_started or bool(self.pipeline)
        # The application hears that its client is gone, and says nothing more.
        cycle.disconnected = True
        cycle.message_event.set()
        if begun:
            self.transport.close()
        else:
            self._end(refusal)

    def _seconds_allowed(self) -> float:
        match self._waits:
            case _Waits.FIRST_BYTE:
                return self._limits.first_byte_seconds
            case _Waits.HEAD:
                return self._limits.head_seconds
            case _Waits.BODY if not self.flow.read_paused:
                # Once it is answered nobody wants the rest; it is read so that the client can read the answer.
                wanted = 0 if self.cycle.response_complete else self._body_bytes
                return self._limits.body_seconds + wanted / self._limits.min_body_rate
            case _:
                return float("inf")

    def _wait(self, waits: _Waits) -> None:
        self._waits = waits
        self._since = self.loop.time()
        self._head_bytes = self._body_bytes = self._pieces = 0

    def _refuse_in_parser(self, refusal: _Refused) -> None:
        # The parser passes on that its callback failed, not how.
        self._refusal = refusal
        raise refusal

    def _end(self, refusal: _Refused) -> None:
        request_id = str(uuid7())
        document = problem_document(refusal.status, refusal.code, str(refusal), request_id)
        body = json.dumps(document).encode()
        head = {
            "content-type": MEDIA_TYPE,
            "content-length": len(body),
            "connection": "close",
            "x-request-id": request_id,
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        } | ({"retry-after": RETRY_AFTER_SECONDS} if refusal is BUSY else {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.transport.write(STATUS_LINE[refusal.status] + lines.encode() + b"\r\n" + body)
        self.transport.close()
        if refusal is not BUSY:  # which the server counts: a line each would fill the log
            _LOG.info("request_refused", request_id=request_id, status=refusal.status, code=refusal.code)
