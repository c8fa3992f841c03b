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
    diagnostics,
    downloads,
    evaluation_actions,
    evaluations,
    events,
    experiments,
    figures,
    files,
    health,
    keys,
    logs,
    metrics,
    owners,
    predictions,
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
    diagnostics,
    figures,
    events,
    attempts,
    logs,
    checkpoints,
    downloads,
    evaluations,
    evaluation_actions,
    predictions,
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
