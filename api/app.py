"""The composition root: settings in, application out. Nothing happens at import.

`create_app` opens no connection: the service starts, and answers `/healthz`, while its database is still down.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import docs, errors, openapi, welcome
from api.edge import Edge
from api.routes import mount
from api.service import ApiService
from api.settings import ApiSettings


def create_app(settings: ApiSettings) -> FastAPI:
    """The whole HTTP service of one process."""
    service = ApiService(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="BNLab",
        version=version("bnlab"),
        summary="Normalization experiments over HTTP",
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else looked for anew with every request
    )
    app.state.service = service
    app.add_middleware(Edge)
    errors.install(app)
    mount(app)
    docs.mount(app)
    welcome.mount(app)
    openapi.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name: stable, and good as the name of a generated client's method."""
    return route.name
