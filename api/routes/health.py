"""Is the process alive, and can it serve: without a key, for whoever starts and watches it."""

from collections import Counter

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.deps import service_of
from api.lanes import DatabaseSilent
from api.outages import UNUSABLE, is_outage
from api.problems import RETRY_AFTER_SECONDS, declared, problem
from api.shown.health import Health, Readiness
from store.tables import Process

_LOG = structlog.get_logger("api")


def mount(app: FastAPI) -> None:
    """`/healthz` and `/readyz`."""
    app.add_api_route("/healthz", get_health, response_model=Health, tags=["health"], summary="The process answers")
    app.add_api_route(
        "/readyz",
        get_readiness,
        response_model=Readiness,
        responses=declared(503),
        tags=["health"],
        summary="What is there",
    )


async def get_health() -> Response:
    """Asks nobody else: neither the database nor a thread."""
    return answer(Health())


async def get_readiness(request: Request) -> Response:
    """Reads the heartbeats in the database. Broker, relay and workers are words only: without them experiments wait."""
    try:
        living = await service_of(request).readiness.living()
    except (SQLAlchemyError, DatabaseSilent) as error:
        return _not_ready(request, error)
    return answer(_in_words(living))


def _not_ready(request: Request, error: Exception) -> Response:
    code, word, detail = "database_unavailable", "unreachable", "The database does not answer."
    if not is_outage(error):
        code, word, detail = "database_unusable", "unusable", UNUSABLE
        _LOG.error("database_unusable", exc_info=error)
    unknown = {"database": word, "broker": "unknown", "relay": "unknown", "workers": "unknown"}
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem(request, 503, code, detail, facts=unknown, headers=headers)


def _in_words(living: list[Process]) -> Readiness:
    heard = [process.broker_ok for process in living if process.broker_ok is not None]
    devices = Counter(process.device or "unknown" for process in living if process.kind == "worker")
    return Readiness(
        # One that reaches the broker proves it alive; that another does not is its own trouble.
        broker="unknown" if not heard else "ok" if any(heard) else "unreachable",
        relay="ok" if any(process.kind == "relay" for process in living) else "absent",
        workers="ok" if devices else "absent",
        devices=dict(devices),
    )
