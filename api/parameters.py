"""What query parameters have in common: a misspelt one is an error, and one that is no list may come once.

Ignoring a filter, or one of two, would show the wrong thing without a word.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, get_origin

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from bncore.spec.strict import Text

MAX_INTEGER = 2**63 - 1
"""The greatest number that both databases compare with a column."""

PlainText = Annotated[Text, Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})]
"""Text without control characters, and saying so: PostgreSQL refuses to compare anything with a NUL."""


class Parameters(BaseModel):
    """Query parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Parameters)


def parameters(model: type[Model]) -> Callable[..., Awaitable[Model]]:
    """A dependency: the parameters of a request, of which only lists may come more than once."""
    lists = frozenset(name for name, field in model.model_fields.items() if get_origin(field.annotation) is list)

    async def read(request: Request, query: Any) -> Any:
        if not request.scope["query_string"]:
            return query
        counts = Counter(name for name, _ in request.query_params.multi_items())
        twice = [name for name, count in counts.items() if count > 1 and name not in lists]
        if twice:
            raise RequestValidationError(
                [{"loc": ("query", name), "msg": "May be given only once", "type": "repeated"} for name in twice]
            )
        return query

    # The framework reads the model from the signature, for the request and for the description.
    read.__annotations__["query"] = Annotated[model, Query()]
    return read
