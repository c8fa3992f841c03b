"""Attempts at a job."""

from datetime import datetime

from pydantic import Field

from api.shown import Shown, maybe_utc, utc
from store import attempts


class Attempt(Shown):
    """One try at a job by one worker; what has not happened yet is null."""

    number: int = Field(description="1, 2, 3, ...; the value for `after` to read on.")
    worker_id: str | None = Field(description="The process that took it, as in /v1/workers while that lives.")
    device: str | None
    device_model: str | None
    torch_version: str | None
    claimed_at: datetime
    started_at: datetime | None = Field(description="When its training began.")
    restored_step: int | None = Field(description="The step it began from; 0 is the beginning.")
    ended_at: datetime | None
    ending: str | None = Field(description="succeeded, failed, cancelled, paused, released, restarted or waits.")
    code: str | None = Field(description="Of the failure that ended it, as in `failure`.")
    message: str | None = Field(description="How it ended, for people.")

    @classmethod
    def of(cls, attempt: attempts.Attempt) -> "Attempt":
        return cls(
            number=attempt.number,
            worker_id=attempt.process_id,
            device=attempt.device,
            device_model=attempt.device_model,
            torch_version=attempt.torch_version,
            claimed_at=utc(attempt.claimed_at),
            started_at=maybe_utc(attempt.started_at),
            restored_step=attempt.restored_step,
            ended_at=maybe_utc(attempt.ended_at),
            ending=attempt.ending,
            code=attempt.code,
            message=attempt.message,
        )


class AttemptPage(Shown):
    """Attempts, oldest first; `next_cursor` is the `after` of the next page and null at the end."""

    data: list[Attempt]
    has_more: bool
    next_cursor: int | None
