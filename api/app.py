"""The composition root: settings in, application out. Nothing happens at import.

`create_app` opens no connection: the service starts, and answers `/healthz`, while its database is still down.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import errors, openapi
from api.changes import ChangeWatch
from api.deps import ApiService
from api.logs import RequestLog
from api.routes import mount
from api.settings import ApiSettings
from store.database import Database


def create_app(settings: ApiSettings) -> FastAPI:
    """The whole HTTP service of one process."""
    database = Database(settings.database_url.get_secret_value())
    changes = ChangeWatch(database, settings.poll_seconds)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        changes.close()
        database.dispose()

    app = FastAPI(
        title="BNLab",
        version=version("bnlab"),
        summary="Normalization experiments over HTTP",
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    app.state.service = ApiService(settings, database, changes)
    app.add_middleware(RequestLog)
    errors.install(app)
    mount(app)
    openapi.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name: stable, and good as the name of a generated client's method."""
    return route.name
