"""What query parameters have in common: a misspelt one is an error, because ignoring a filter shows the wrong thing."""

from pydantic import BaseModel, ConfigDict

MAX_INTEGER = 2**63 - 1
"""The greatest number that both databases compare with a column."""


class Parameters(BaseModel):
    """Query parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
