"""One module a noun; `mount` puts them all into an application."""

from fastapi import FastAPI

from api.routes import catalog, checkpoints, downloads, events, experiments, health, metrics, results, submissions

_NOUNS = (health, experiments, submissions, results, metrics, events, checkpoints, downloads, catalog)


def mount(app: FastAPI) -> None:
    """The open addresses, and /v1 behind the key."""
    for noun in _NOUNS:
        noun.mount(app)
