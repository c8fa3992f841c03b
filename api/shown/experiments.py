"""An experiment, and what other views repeat of it."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Shown, maybe_utc, utc
from store import tables
from store.jobs.states import TERMINAL, State


class Progress(Shown):
    step: int = Field(description="Completed optimizer steps.")
    total_steps: int
    fraction: float = Field(ge=0.0, le=1.0)


class Failure(Shown):
    code: str = Field(
        description="invalid_data, out_of_memory, trainer_error, deadline, or after too many restarts worker_lost, "
        "trainer_killed."
    )
    message: str


class Links(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    results: str
    metrics: str
    events: str
    checkpoints: str
    cancel: str


class Experiment(Shown):
    """One spec, one training run, however often it is restarted."""

    id: str
    name: str | None
    tags: dict[str, str]
    state: str = Field(description="queued, running, paused, succeeded, failed or cancelled.")
    is_terminal: bool = Field(description="Nothing will change any more.")
    desired: str | None = Field(description="What was asked of a running experiment and is not done yet.")
    phase: str | None = Field(description="restoring, loading_data, training, evaluating or saving; while running.")
    progress: Progress
    waiting_for: str | None
    device: str = Field(description="cpu or cuda: the queue it was submitted to.")
    attempt: int = Field(description="How often a worker has begun it.")
    restarts: int = Field(description="How many of those followed a lost worker or a killed trainer.")
    stop_reason: str | None = Field(description="budget, target_reached or diverged; once succeeded.")
    failure: Failure | None
    retry_of: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    spec: dict[str, Any] = Field(description="Complete, and valid as the body of a new POST.")
    links: Links

    @classmethod
    def of(cls, row: tables.Experiment) -> "Experiment":
        return cls(
            id=row.id,
            name=row.name,
            tags=row.tags,
            state=row.state,
            is_terminal=row.state in TERMINAL,
            desired=row.desired,
            phase=row.phase,
            progress=progress_of(row),
            waiting_for=row.waiting_for,
            device=row.device,
            attempt=row.attempt,
            restarts=row.restarts,
            stop_reason=row.stop_reason,
            failure=failure_of(row),
            retry_of=row.retry_of,
            created_at=utc(row.created_at),
            started_at=maybe_utc(row.started_at),
            finished_at=maybe_utc(row.finished_at),
            spec=row.spec,
            links=links_of(row.id),
        )


def progress_of(row: tables.Experiment) -> Progress:
    """How far the row has come."""
    fraction = min(1.0, row.step / row.total_steps) if row.total_steps else 0.0
    return Progress(step=row.step, total_steps=row.total_steps, fraction=fraction)


def failure_of(row: tables.Experiment) -> Failure | None:
    """Why the row failed, if it did."""
    if row.state is not State.FAILED:
        return None
    return Failure(code=row.failure_code or "unknown", message=row.failure_message or "")


def links_of(experiment_id: str) -> Links:
    """Where the parts of an experiment are."""
    base = f"/v1/experiments/{experiment_id}"
    return Links(
        self_=base,
        results=f"{base}/results",
        metrics=f"{base}/metrics",
        events=f"{base}/events",
        checkpoints=f"{base}/checkpoints",
        cancel=f"{base}/cancel",
    )
