"""Logs of the API process: one line a request, JSON or for people, each with the request's id.

Invariant: a line holds the route's template and ids of the right form, never raw input.
"""

import logging
import re
import sys
import time
from typing import Literal

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import Processor
from uuid_utils import uuid7

_LOG = structlog.get_logger("api")
_ID = re.compile(r"[a-z]+_[0-9a-f]{32}")
_QUIET_PATHS = ("/healthz", "/readyz")


def configure(log_format: Literal["json", "console"]) -> None:
    """Send structlog and the standard library's loggers (uvicorn's among them) to stderr in one format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Plain tracebacks in both: the richer ones show local variables, and a bearer key is one.
    last: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


class RequestLog:
    """ASGI middleware: gives each request an id, its answer an `X-Request-Id`, and the log a line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid7())
        scope.setdefault("state", {})["request_id"] = request_id
        answered = {"status": 500}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log_request(scope, answered["status"], time.perf_counter() - began)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    path = getattr(scope.get("route"), "path", None)
    if path in _QUIET_PATHS and status < 400:
        return
    ids = {name: value for name, value in scope.get("path_params", {}).items() if _ID.fullmatch(value)}
    _LOG.info("request", method=scope["method"], path=path, status=status, seconds=round(seconds, 4), **ids)
