"""Files, whatever they are of, and where their bytes are."""

from datetime import datetime

from pydantic import Field

from api.shown import Shown, utc
from store import tables


class File(Shown):
    """A file that is whole; its bytes never change."""

    id: str
    name: str
    kind: str = Field(description="What it is for, such as weights or training_state.")
    step: int | None = Field(description="Of training, where it is of one.")
    size: int
    sha256: str
    job_id: str | None = Field(description="What made it, or what it was uploaded for.")
    created_at: datetime
    content: str = Field(description="Where its bytes are.")

    @classmethod
    def of(cls, row: tables.File) -> "File":
        return cls(
            id=row.id,
            name=row.name,
            kind=row.kind,
            step=row.step,
            size=row.size,
            sha256=row.sha256,
            job_id=row.job_id,
            created_at=utc(row.created_at),
            content=f"/v1/files/{row.id}/content",
        )
