"""Logs of the API process, uvicorn's among them, on standard error: JSON or for people."""

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog
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
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
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


class _Lossy:
    """Standard error; that a line cannot be written there is no reason to fail a request."""

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
