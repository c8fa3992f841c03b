"""The outermost layer of the application: what every answer has, whatever made it, and the log's line for it.

Invariant: an answer carries the id of its request, the log has a line with that id, and when the answer is a 500 the
traceback too. A line holds the route's template and ids of the right form, never raw input.
"""

import asyncio
import re
import time
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from api.problems import RETRY_AFTER_SECONDS, problem

_LOG = structlog.get_logger("api")
_ID = re.compile(r"[a-z]+_[0-9a-f]{32}")
_QUIET_PATHS = ("/healthz", "/readyz")
_CLIENT_LEFT = 499
"""No status of HTTP, and sent to nobody: what logs of web servers say when a client did not wait."""

_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_UNLESS_SAID = {
    # Whoever opens an answer in a browser is shown data, in which nothing may act.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    # An answer is for the holder of one key; routes say so where a client may keep one.
    b"cache-control": b"no-store",
}


class Edge:
    """ASGI middleware, around everything that can answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid7())
        state = {**scope.get("state", {}), "request_id": request_id, "head": scope["method"] == "HEAD"}
        # HEAD is GET without the body, which the server leaves out by itself.
        inner = {**scope, "state": state, "method": "GET" if state["head"] else scope["method"]}
        exchange = _Exchange(inner, send, request_id)
        # A request that waited in a pipeline begins with what the one before it has bound.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await exchange.answer(self._app, receive)
        finally:
            exchange.log(scope["method"])


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = (b"x-request-id", request_id.encode())
        self._began = time.perf_counter()
        self._status: int | None = None
        self._is_complete = False

    async def answer(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self.send)
        except ClientDisconnect:
            self._status = _CLIENT_LEFT
        except asyncio.CancelledError:
            if self._status is None:
                headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
                await self._say(receive, 503, "shutting_down", "The service is going away; try again.", headers)
            # The server cancels nothing but this, once, and waits for nobody; it would take the error for a fault of
            # the application. An answer that has begun it cuts off itself.
        except Exception as error:
            _LOG.error("unexpected_error", exc_info=error)
            if self._status is None:
                detail = "Something went wrong here; the log has it under this instance."
                await self._say(receive, 500, "internal_error", detail)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = message["headers"]
            said = {name for name, _ in headers}
            added = [header for header in _UNLESS_SAID.items() if header[0] not in said]
            # What `api.deps` says of every answer to one owner.
            limits = self._scope["state"].get("limits", ())
            message = {**message, "headers": [*headers, self._request_id, *_ALWAYS, *added, *limits]}
        elif not message.get("more_body", False):
            self._is_complete = True
        await self._send(message)

    def log(self, method: str) -> None:
        status = self._status if self._status is not None else 500
        path = getattr(self._scope.get("route"), "path", None)
        if path in _QUIET_PATHS and status < 400:
            return
        facts: dict[str, Any] = {} if self._is_complete else {"aborted": True}
        facts |= {name: value for name, value in self._scope.get("path_params", {}).items() if _ID.fullmatch(value)}
        seconds = round(time.perf_counter() - self._began, 4)
        _LOG.info("request", method=method, path=path, status=status, seconds=seconds, **facts)

    async def _say(
        self, receive: Receive, status: int, code: str, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        await problem(HTTPConnection(self._scope), status, code, detail, headers=headers)(
            self._scope, receive, self.send
        )
