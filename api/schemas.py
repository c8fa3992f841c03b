"""What is shown: one direction, from rows to JSON.

Additive by promise: fields may be added, words of `state`, `phase` and `code` too; a reader treats a state it does not
know as not terminal. Times are RFC 3339 in UTC; numbers that are not finite are "NaN", "Infinity" and "-Infinity".
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from store import tables
from store.jobs.states import TERMINAL, State

_REAL = {"anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]}
Real = Annotated[float, WithJsonSchema(_REAL)]
Item = TypeVar("Item")


class Shown(BaseModel):
    """A JSON object that is only ever sent."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", validate_by_name=True, serialize_by_alias=True)


class Page(Shown, Generic[Item]):
    """One page of a listing; `next_cursor` begins the next one and is null on the last."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None


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


class Summary(Shown):
    """The run in a few numbers; what is not known yet is null."""

    steps: int | None
    seconds: Real | None = Field(description="Seconds of training, over all attempts; known at the end.")
    test_accuracy: Real | None
    test_loss: Real | None
    best_test_accuracy: Real | None
    steps_to_target: int | None = Field(description="The first evaluated step at or above the target accuracy.")
    diverged_at: int | None = Field(default=None, description="The first step whose loss was not finite.")


class ResultCheckpoint(Shown):
    id: str
    kind: str
    step: int
    size: int
    sha256: str
    metrics: dict[str, Any]

    @classmethod
    def of(cls, row: tables.Checkpoint) -> "ResultCheckpoint":
        return cls(id=row.id, kind=row.kind, step=row.step, size=row.size, sha256=row.sha256, metrics=row.metrics)


class Results(Shown):
    """Everything a table or a progress bar shows of an experiment, in one answer."""

    id: str
    name: str | None
    state: str
    is_terminal: bool
    phase: str | None
    stop_reason: str | None
    failure: Failure | None
    progress: Progress
    attempt: int
    summary: Summary
    metrics: dict[str, Real] = Field(description="The newest value of every series.")
    checkpoints: list[ResultCheckpoint]
    links: Links


class MetricSeries(Shown):
    """Points in the order of their steps."""

    steps: list[int]
    values: list[Real]
    count: int = Field(description="Points in the range, before any were left out for max_points.")


class Metrics(Shown):
    series: dict[str, MetricSeries]


class Event(Shown):
    """One line of an experiment's log."""

    number: int = Field(description="1, 2, 3, ...; the value for `after` to read on.")
    at: datetime
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]

    @classmethod
    def of(cls, row: tables.JobEvent) -> "Event":
        return cls(
            number=row.number, at=utc(row.at), attempt=row.attempt, kind=row.kind, message=row.message, data=row.data
        )


class StoredFile(Shown):
    size: int
    sha256: str
    content: str = Field(description="Where its bytes are.")


class Checkpoint(Shown):
    """A saved network; of kind `last`, with the state to resume its training."""

    id: str
    kind: str = Field(description="best, last or periodic.")
    step: int
    epoch: int
    attempt: int
    size: int
    sha256: str
    metrics: dict[str, Any]
    created_at: datetime
    content: str = Field(description="Where the weights are: one safetensors file.")
    training_state: StoredFile | None

    @classmethod
    def of(cls, row: tables.Checkpoint) -> "Checkpoint":
        content = f"{links_of(row.experiment_id).checkpoints}/{row.id}/content"
        state = None
        if row.state_size is not None and row.state_sha256 is not None:
            address = f"{content}?file=training_state"
            state = StoredFile(size=row.state_size, sha256=row.state_sha256, content=address)
        return cls(
            id=row.id,
            kind=row.kind,
            step=row.step,
            epoch=row.epoch,
            attempt=row.attempt,
            size=row.size,
            sha256=row.sha256,
            metrics=row.metrics,
            created_at=utc(row.created_at),
            content=content,
            training_state=state,
        )


class Health(Shown):
    status: Literal["ok"] = "ok"


class Readiness(Shown):
    """In words. Only an unreachable database makes the service unready: the others delay experiments, none is lost."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    broker: Literal["ok", "unreachable", "unknown"]
    relay: Literal["ok", "absent"]
    workers: Literal["ok", "absent"]
    devices: dict[str, int] = Field(description="Living workers by the queue they serve.")


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


def utc(seconds: float) -> datetime:
    """Epoch seconds as the store keeps them, as a time to show."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_utc(seconds: float | None) -> datetime | None:
    """The same where there may be none."""
    return None if seconds is None else utc(seconds)
