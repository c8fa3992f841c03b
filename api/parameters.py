"""What query parameters have in common: a misspelt one is an error, and one that is no list may come once.

Ignoring a filter, or one of two, would show the wrong thing without a word; so would guessing what is meant by bytes
that are no text, or by a number that is not written as the description says.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError
from starlette.requests import Request

from bncore.spec.strict import Text

MAX_INTEGER = 2**63 - 1
"""The greatest number that both databases compare with a column."""

PlainText = Annotated[Text, Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})]
"""Text without control characters, and saying so: PostgreSQL refuses to compare anything with a NUL."""
_MAX_PARAMETERS = 200
"""Repeated ones counted: more than any route has a use for, and few enough to be judged at once."""
_FORMS: dict[type, tuple[re.Pattern[str], PydanticKnownError]] = {
    int: (re.compile(r"-?[0-9]+"), PydanticKnownError("int_parsing")),
    float: (re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"), PydanticKnownError("float_parsing")),
    bool: (re.compile("true|false"), PydanticKnownError("bool_parsing")),
}


class Parameters(BaseModel):
    """Query parameters; unknown ones are refused, and numbers and booleans in another form than JSON's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _in_form(cls, given: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        for kind in (annotation, *get_args(annotation)):
            if kind in _FORMS:
                form, refusal = _FORMS[kind]
                if not form.fullmatch(given):
                    raise refusal
        return given


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
        values: dict[str, list[str]] = {}
        for name, value in _given(request.scope["query_string"]):
            values.setdefault(name, []).append(value)
        try:
            found = self.model.model_validate(
                {name: given if name in self._lists else given[-1] for name, given in values.items()}
            )
        except ValidationError as error:
            faults = error.errors(include_url=False)
            raise RequestValidationError([{**fault, "loc": ("query", *fault["loc"])} for fault in faults]) from None
        twice = [name for name, given in values.items() if name not in self._lists and len(given) > 1]
        if twice:
            raise _refusal(twice, "May be given only once", "repeated")
        return found


NO_PARAMETERS = Reading(Parameters)


def _given(query: bytes) -> list[tuple[str, str]]:
    if query.count(b"&") >= _MAX_PARAMETERS:
        raise RequestValidationError(
            [{"loc": ("query",), "msg": f"May have at most {_MAX_PARAMETERS} parameters", "type": "too_many"}]
        )
    # A surrogate then stands for each byte that is no part of UTF-8.
    text = query.decode("utf-8", "surrogateescape")
    given = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    broken = [name for name, value in given if not (_is_text(name) and _is_text(value))]
    if broken:
        raise _refusal(dict.fromkeys(broken), "Should be UTF-8, percent-encoded", "not_utf8")
    return given


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _refusal(names: Iterable[str], detail: str, code: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", name), "msg": detail, "type": code} for name in names])
