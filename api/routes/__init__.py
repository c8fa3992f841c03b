"""One module a noun; `mount` puts them all into an application."""

from fastapi import Depends, FastAPI

from api.deps import authenticate
from api.problems import declared
from api.routes import (
    actions,
    attempts,
    bulk,
    catalog,
    checkpoints,
    downloads,
    events,
    experiments,
    health,
    keys,
    logs,
    metrics,
    owners,
    results,
    submissions,
    workers,
)

_BEHIND_THE_KEY = (
    submissions,
    experiments,
    actions,
    bulk,
    results,
    metrics,
    events,
    attempts,
    logs,
    checkpoints,
    downloads,
    keys,
    owners,
    workers,
    catalog,
)


def mount(app: FastAPI) -> None:
    """The open addresses, and /v1 behind the key."""
    app.include_router(health.router())
    for module in _BEHIND_THE_KEY:
        # Each router says /v1 itself: a route then knows its whole path, in logs and in the Allow header.
        app.include_router(
            module.router(), dependencies=[Depends(authenticate)], responses=declared(401, 403, 429, 503)
        )
