"""Which experiments are meant: the query parameters of the listing, and of what is done to all that it would list."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.parameters import Parameters, PlainText
from store.experiments import Filters
from store.jobs.states import State

_TAG = Annotated[PlainText, Field(min_length=1, max_length=64 + 1 + 512)]
_BEGINS_WITH_A_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]")


def _written_out(text: object) -> object:
    """A bare number would be taken for seconds, or for milliseconds."""
    if isinstance(text, str) and not _BEGINS_WITH_A_DATE.match(text):
        raise PydanticCustomError("datetime_format", "Should be a time as in RFC 3339, with its offset")
    return text


_Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class FilterQuery(Parameters):
    state: list[State] = Field(default_factory=list, max_length=16, description="Repeat it for any of several.")
    tag: list[_TAG] = Field(
        default_factory=list,
        max_length=16,
        description="`key:value`, or `key` alone for any value. Repeated, all must hold.",
    )
    study: Annotated[str, Field(pattern="^stu_[0-9a-f]{32}$")] | None = Field(
        default=None, description="Those that a study has submitted, by their tag `study`."
    )
    name: Annotated[PlainText, Field(max_length=200)] | None = Field(default=None, description="The whole name.")
    created_from: _Moment | None = Field(default=None, description="RFC 3339, with an offset. Included.")
    created_before: _Moment | None = Field(default=None, description="RFC 3339, with an offset. Not included.")

    def filters(self, owner: str | None, among: frozenset[State] = frozenset(State)) -> Filters | None:
        """What the store is asked, of experiments in these states; None when none can be meant."""
        tags = _tags([*self.tag, *([f"study:{self.study}"] if self.study else [])])
        states = [state for state in dict.fromkeys(self.state or sorted(among)) if state in among]
        if tags is None or not states:
            return None
        return Filters(
            owner=owner,
            states=tuple(states) if self.state or len(among) < len(State) else (),
            tags=tags,
            name=self.name,
            created_from=_seconds(self.created_from),
            created_before=_seconds(self.created_before),
        )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _tags(given: Sequence[str]) -> dict[str, str | None] | None:
    """What is asked of each key; None when that is two different values, which no experiment has."""
    asked: dict[str, str | None] = {}
    for key, colon, value in (text.partition(":") for text in given):
        known = asked.get(key)
        if colon and known not in (None, value):
            return None
        asked[key] = value if colon else known
    return asked
