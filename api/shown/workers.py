"""Workers that live."""

from collections.abc import Collection
from datetime import datetime

from pydantic import Field

from api.shown import Shown, utc
from store import tables


class Worker(Shown):
    """A process that trains."""

    id: str
    host: str
    device: str | None = Field(description="cpu or cuda: the queue it serves.")
    device_model: str | None
    versions: dict[str, str] = Field(description="Of what decides its results.")
    is_busy: bool
    working_on: str | None = Field(description="The experiment, if it is your owner's.")
    trouble: str | None = Field(description="Why it takes nothing at the moment, if so.")
    since: datetime
    heartbeat_at: datetime

    @classmethod
    def of(cls, row: tables.Process, visible: Collection[str]) -> "Worker":
        return cls(
            id=row.id,
            host=row.host,
            device=row.device,
            device_model=row.device_model,
            versions=row.versions,
            is_busy=row.job_id is not None,
            working_on=row.job_id if row.job_id in visible else None,
            trouble=row.trouble,
            since=utc(row.started_at),
            heartbeat_at=utc(row.heartbeat_at),
        )
