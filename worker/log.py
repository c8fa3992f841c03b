"""Structured logs of worker and relay, Celery's and every library's lines among them, on standard error.

Invariant: a line about a job carries `experiment_id`, or that of its kind, and `attempt`; the attempt binds them once
(`structlog.contextvars`), nobody passes them along.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import Processor


def configure_logging(log_format: Literal["json", "console"], process: str) -> None:
    """Log from INFO on as JSON lines, or readable for people; every line names the kind of process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _process_name(process),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # A bell is no news: Celery would write two lines for each.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_lost_answer_to_a_bell)


def _process_name(process: str) -> Processor:
    # Not a context variable: those are per thread, and threads of libraries log too.
    def add(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"process": process, **line}

    return add


def _lost_answer_to_a_bell(record: logging.LogRecord) -> bool:
    """Celery calls it critical, with a traceback, when the broker goes before it hears that a message was taken."""
    if record.exc_info and record.msg.startswith(("Couldn't ack", "Couldn't reject")):
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


def _renderers(log_format: Literal["json", "console"]) -> list[Processor]:
    if log_format == "console":
        return [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
