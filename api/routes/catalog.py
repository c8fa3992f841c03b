"""What a spec can choose from, generated from the unions of `bncore.spec`: a new kind appears here by itself."""

import functools
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.responses import Response

from api.answers import answer
from api.routes.keyed import KeyedRoutes
from api.shown.catalog import CatalogKind, CatalogList
from bncore.spec import CATALOG, kinds


def mount(app: FastAPI) -> None:
    """One address for each union."""
    routes = KeyedRoutes(app, "/v1", "catalog")
    for noun in CATALOG:
        routes.add(f"/{noun}", _listing(noun), name=f"list_{noun}", response_model=CatalogList, summary=f"The {noun}")


def _listing(noun: str) -> Callable[[], Awaitable[Response]]:
    # Now, since a first request that had to would hold up all others.
    listed = _listed(noun)
    # The same for everyone, as long as the process lives.
    headers = {"Cache-Control": "private, max-age=60"}

    async def list_kinds() -> Response:
        return answer(listed, headers=headers)

    list_kinds.__doc__ = f"Every kind of {noun} that a spec can name, in the order of their definition."
    return list_kinds


@functools.cache
def _listed(noun: str) -> CatalogList:
    """Once a process: the schemas of all unions take six times as long as the rest of an application."""
    return CatalogList(
        data=[
            CatalogKind(kind=found.kind, description=found.description, json_schema=found.schema)
            for found in kinds(noun)
        ]
    )
