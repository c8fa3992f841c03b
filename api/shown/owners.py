"""Owners: what they have, and what they may have."""

from datetime import datetime

from pydantic import Field

from api.settings import ApiSettings
from api.shown import Shown, utc
from store import tables
from store.owners import Usage


class OwnerLimits(Shown):
    """What one owner may have at a time."""

    queued_jobs: int
    stored_bytes: int
    requests_per_second: float | None = Field(description="In the long run; null: any number.")
    request_burst: int | None = Field(description="At once.")

    @classmethod
    def of(cls, settings: ApiSettings) -> "OwnerLimits":
        limited = settings.requests_per_second > 0
        return cls(
            queued_jobs=settings.queued_per_owner,
            stored_bytes=settings.bytes_per_owner,
            requests_per_second=settings.requests_per_second if limited else None,
            request_burst=settings.request_burst if limited else None,
        )


class Owner(Shown):
    """Somebody who submits."""

    id: str
    name: str
    created_at: datetime
    stored_bytes: int = Field(description="Of files, the same bytes once; those included that are about to be purged.")
    queued_jobs: int
    running_jobs: int
    limits: OwnerLimits

    @classmethod
    def of(cls, row: tables.Owner, usage: Usage, limits: OwnerLimits) -> "Owner":
        return cls(
            id=row.id,
            name=row.name,
            created_at=utc(row.created_at),
            stored_bytes=row.stored_bytes,
            queued_jobs=usage.queued,
            running_jobs=usage.running,
            limits=limits,
        )
