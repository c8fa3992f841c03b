"""What query parameters have in common: a misspelt one is an error, and one that is no list may come once.

Ignoring a filter, or one of two, would show the wrong thing without a word.
"""

from typing import Annotated, Generic, TypeVar, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
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


class Reading(Generic[Model]):
    """A dependency: the parameters of a request, of which only lists may come more than once.

    The framework reads such a class too, field by field, in a hundred times the time that validation takes; so it does
    not know of these parameters, and `api.openapi` adds them to the description.
    """

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        fields = model.model_fields.items()
        self._lists = frozenset(name for name, field in fields if get_origin(field.annotation) is list)

    async def __call__(self, request: Request) -> Model:
        given = request.query_params
        values = {name: given.getlist(name) if name in self._lists else given[name] for name in given}
        try:
            found = self.model.model_validate(values)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            raise RequestValidationError([{**fault, "loc": ("query", *fault["loc"])} for fault in faults]) from None
        twice = [name for name in values if name not in self._lists and len(given.getlist(name)) > 1]
        if twice:
            raise RequestValidationError(
                [{"loc": ("query", name), "msg": "May be given only once", "type": "repeated"} for name in twice]
            )
        return found
