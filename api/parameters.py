"""What query parameters have in common: a misspelt one is an error, because ignoring a filter shows the wrong thing."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bncore.spec.strict import Text

MAX_INTEGER = 2**63 - 1
"""The greatest number that both databases compare with a column."""

PlainText = Annotated[Text, Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})]
"""Text without control characters, and saying so: PostgreSQL refuses to compare anything with a NUL."""


class Parameters(BaseModel):
    """Query parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
