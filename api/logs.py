"""Logs of the API process, uvicorn's among them, on standard error: JSON or for people."""

import contextlib
import json
import logging
import sys
from typing import Any, Literal, TextIO, cast

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import Processor


def configure(log_format: Literal["json", "console"]) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Not the rich traceback: it would show local variables, and a bearer key is one.
    last: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    structlog.configure(
        # Written at once: a line through the standard library's loggers costs four times as much, and each request
        # has one.
        processors=[*shared, *last],
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Lossy())),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _json(line: dict[str, Any], **_defaults: Any) -> str:
    try:
        # A tenth of what the standard library's takes, and each request has a line.
        return to_json(line, fallback=repr, ensure_ascii=True).decode()
    except PydanticSerializationError:  # half of a surrogate pair, which is no text
        return json.dumps(line, default=repr)


class _Lossy:
    """Standard error; that a line cannot be written there is no reason to fail a request."""

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
