"""One module a noun; `mount` puts them all into an application."""

from fastapi import FastAPI

from api.routes import (
    actions,
    attempts,
    bulk,
    catalog,
    checkpoints,
    dataset_files,
    datasets,
    downloads,
    events,
    experiments,
    files,
    health,
    keys,
    logs,
    metrics,
    owners,
    results,
    submissions,
    uploads,
    workers,
)

_NOUNS = (
    health,
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
    datasets,
    uploads,
    dataset_files,
    files,
    keys,
    owners,
    workers,
    catalog,
)


def mount(app: FastAPI) -> None:
    """The open addresses, and /v1 behind the key."""
    for noun in _NOUNS:
        noun.mount(app)
