"""What a spec can choose from."""

from typing import Any

from pydantic import Field

from api.shown import Shown


class CatalogKind(Shown):
    """One choice: its `kind` in a spec, what it is, and the JSON Schema of its fields."""

    kind: str
    description: str
    json_schema: dict[str, Any] = Field(alias="schema")


class CatalogList(Shown):
    data: list[CatalogKind]
