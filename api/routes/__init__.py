"""One module a noun; `mount` puts them all into an application."""

from fastapi import FastAPI

from api.routes import (
    actions,
    bulk,
    catalog,
    checkpoints,
    comparisons,
    dataset_files,
    datasets,
    diagnostics,
    downloads,
    evaluations,
    experiments,
    figures,
    files,
    health,
    job_actions,
    job_records,
    keys,
    logs,
    metrics,
    owners,
    predictions,
    results,
    submissions,
    sweep_actions,
    sweep_figures,
    sweep_results,
    sweep_validation,
    sweeps,
    uploads,
    workers,
)

_NOUNS = (
    health,
    submissions,
    experiments,
    actions,
    job_actions,
    bulk,
    comparisons,
    sweeps,
    sweep_validation,
    sweep_actions,
    sweep_results,
    sweep_figures,
    results,
    metrics,
    job_records,
    diagnostics,
    figures,
    logs,
    checkpoints,
    downloads,
    evaluations,
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
