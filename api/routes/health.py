"""Is the process alive, and can it serve: without a key, for whoever starts and watches it."""

from collections import Counter

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Service
from api.problems import RETRY_AFTER_SECONDS, declared, problem
from api.schemas import Health, Readiness
from store import processes
from store.tables import Process


def router() -> APIRouter:
    """`/healthz` and `/readyz`."""
    routes = APIRouter(tags=["health"])
    routes.add_api_route("/healthz", get_health, response_model=Health, summary="The process answers")
    routes.add_api_route(
        "/readyz", get_readiness, response_model=Readiness, responses=declared(503), summary="What is there"
    )
    return routes


def get_health() -> Health:
    """Asks nobody else."""
    return Health()


def get_readiness(request: Request, service: Service) -> Readiness | Response:
    """Reads the heartbeats in the database. Broker, relay and workers are words only: without them experiments wait."""
    try:
        with service.database.read() as session:
            living = processes.live(session, within_seconds=service.settings.live_within_seconds)
    except SQLAlchemyError:
        unknown = {"database": "unreachable", "broker": "unknown", "relay": "unknown", "workers": "unknown"}
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        detail = "The database does not answer."
        return problem(request, 503, "database_unavailable", detail, facts=unknown, headers=headers)
    return _in_words(living)


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
