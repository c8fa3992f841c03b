"""What is said of a data set before it is uploaded."""

import json
from typing import Annotated, Any

from pydantic import Field

from bncore.spec import fingerprint_of
from bncore.spec.importing import ImportSpec
from bncore.spec.limits import NAME_CHARS
from bncore.spec.strict import SpecModel, Text
from store.datasets.uploads import Wanted

_FILE_NAME_BYTES = 200
"""File systems take 255 of them; a character has up to four."""
_SHA256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DatasetBody(ImportSpec):
    """A data set that is about to come: what it is called, and how it is to be read; what is left out is found out."""

    name: Annotated[Text, Field(min_length=1, max_length=NAME_CHARS)]
    file_name: Annotated[Text, Field(min_length=1, max_length=NAME_CHARS)] | None = Field(
        default=None, description="What the file is called; of use where that says what is in it."
    )
    file_size: int | None = Field(default=None, ge=1, description="In bytes: what is too large is refused now.")
    sha256: _SHA256 | None = Field(
        default=None, description="Of the file, in hex: what is there already need not be sent again."
    )

    def wanted(self) -> Wanted:
        """What is stored of it."""
        spec: dict[str, Any] = self.model_dump(mode="json", include=set(ImportSpec.model_fields))
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
        return Wanted(self.name, _file_name(self.file_name or self.name), spec, fingerprint_of(text))


class CompleteBody(SpecModel):
    """What the parts come to, put together."""

    sha256: _SHA256 = Field(description="Of the whole file, in hex.")


def _file_name(said: str) -> str:
    """As it was given, for messages to show, but for folders; of what is too long for a disk, the end."""
    name = said.replace("\\", "/").rpartition("/")[2]
    return name.encode()[-_FILE_NAME_BYTES:].decode("utf-8", "ignore").lstrip(".") or "upload"
