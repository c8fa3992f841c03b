"""What a spec can choose from, generated from the unions of `bncore.spec`: a new kind appears here by itself."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from api.schemas import Shown
from bncore.spec import CATALOG, kinds


class CatalogKind(Shown):
    """One choice: its `kind` in a spec, what it is, and the JSON Schema of its fields."""

    kind: str
    description: str
    json_schema: dict[str, Any] = Field(alias="schema")


class CatalogList(Shown):
    data: list[CatalogKind]


def router() -> APIRouter:
    """One address for each union."""
    routes = APIRouter(prefix="/v1", tags=["catalog"])
    for noun in CATALOG:
        routes.add_api_route(
            f"/{noun}", _listing(noun), name=f"list_{noun}", response_model=CatalogList, summary=f"The {noun}"
        )
    return routes


def _listing(noun: str) -> Callable[[], CatalogList]:
    listed = CatalogList(
        data=[
            CatalogKind(kind=found.kind, description=found.description, json_schema=found.schema)
            for found in kinds(noun)
        ]
    )

    def list_kinds() -> CatalogList:
        return listed

    list_kinds.__doc__ = f"Every kind of {noun} that a spec can name, in the order of their definition."
    return list_kinds
