"""An experiment, and what other views repeat of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Real, Shown, maybe_utc, utc
from api.shown.plans import SpecWarning
from api.shown.waiting import Living, waiting_for
from store import tables
from store.experiments import Sight, Standing
from store.jobs.failures import CODES, PRUNED, Code, Remedy
from store.jobs.states import TERMINAL, State


def _described(codes: Mapping[str, Code]) -> str:
    listed = [
        f"`{name}`: {code.meaning}{'' if code.remedy is Remedy.FINAL else ', again and again'}"
        for name, code in codes.items()
    ]
    return "; ".join(listed) + "."


class Progress(Shown):
    step: int = Field(description="Completed optimizer steps.")
    total_steps: int
    fraction: float = Field(ge=0.0, le=1.0)


class Failure(Shown):
    code: str = Field(description=_described(CODES))
    message: str


class Links(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    results: str
    metrics: str
    events: str
    checkpoints: str
    diagnostics: str
    figures: str
    attempts: str
    logs: str
    cancel: str
    pause: str
    resume: str
    retry: str
    kill: str
    clone: str


class Experiment(Shown):
    """One spec, one training run, however often it is restarted."""

    id: str
    name: str | None
    tags: dict[str, str]
    state: str = Field(description="queued, running, paused, succeeded, failed or cancelled.")
    is_terminal: bool = Field(description="Nothing will change any more.")
    desired: str | None = Field(description="What was asked of a running experiment and is not done yet.")
    phase: str | None = Field(
        description="restoring, loading_data, training, evaluating or saving, while it runs; resting, where it is "
        "paused until a rung of its sweep is decided."
    )
    progress: Progress
    waiting_for: str | None = Field(description="In words, while it is queued: a worker, a time.")
    device: str = Field(description="cpu or cuda: the queue it was submitted to.")
    attempt: int = Field(description="How often a worker has begun it.")
    restarts: int = Field(description="How many of those followed a lost worker or a killed trainer.")
    stop_reason: str | None = Field(description="budget, target_reached or diverged; once succeeded.")
    failure: Failure | None
    retry_of: str | None = Field(description="The experiment that this one was cloned from.")
    created_at: datetime
    claimed_at: datetime | None = Field(description="When a worker last took it.")
    started_at: datetime | None = Field(description="When its training first began.")
    finished_at: datetime | None
    spec: dict[str, Any] = Field(description="Complete, and valid as the body of a new POST.")
    links: Links

    @classmethod
    def of(cls, row: tables.Experiment, living: Living) -> "Experiment":
        return cls(**_facts(row, living))


class QueuePlace(Shown):
    """Where a queued experiment stands."""

    position: int = Field(ge=1, description="1 is the next; nobody knows which of them a worker can take.")
    ahead_capped: bool = Field(description="No more were counted: the position is this one or a later one.")


class ExperimentNow(Experiment):
    """An experiment looked at by itself. What this adds changes without its ETag."""

    queue: QueuePlace | None = Field(description="While it is queued.")
    eta_seconds: float | None = Field(description="While it runs: to its last step, at this attempt's pace so far.")

    @classmethod
    def seen(cls, sight: Sight, living: Living) -> "ExperimentNow":
        return cls(**_facts(sight.experiment, living), queue=place_of(sight), eta_seconds=sight.seconds_left)


class ListedExperiment(ExperimentNow):
    """An experiment among others."""

    test_accuracy: Real | None = Field(description="On the test data, at the last evaluation.")

    @classmethod
    def listed(cls, row: tables.Experiment, standing: Standing, living: Living) -> "ListedExperiment":
        sight = standing.sights.get(row.id)
        queue, left = (None, None) if sight is None else (place_of(sight), sight.seconds_left)
        accuracy = (row.summary or {}).get("test_accuracy", row.accuracy)
        return cls(**_facts(row, living), queue=queue, eta_seconds=left, test_accuracy=accuracy)


class Submitted(Experiment):
    """An experiment that was accepted."""

    warnings: list[SpecWarning] = Field(description="What may not be meant so.")

    @classmethod
    def accepted(cls, row: tables.Experiment, living: Living, warnings: list[SpecWarning]) -> "Submitted":
        return cls(**_facts(row, living), warnings=warnings)


class Changed(Shown):
    """What came of an action on many."""

    changed: int = Field(description="How many were changed, or asked to.")
    more: bool = Field(description="There are more of them: ask again.")


def _facts(row: tables.Experiment, living: Living) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "tags": row.tags,
        "state": row.state,
        "is_terminal": row.state in TERMINAL,
        "desired": row.desired,
        "phase": row.phase,
        "progress": _progress(row),
        "waiting_for": waiting_for(row, living),
        "device": row.device,
        "attempt": row.attempt,
        "restarts": row.restarts,
        "stop_reason": row.stop_reason,
        "failure": failure_of(row),
        "retry_of": row.retry_of,
        "created_at": utc(row.created_at),
        "claimed_at": maybe_utc(row.claimed_at),
        "started_at": maybe_utc(row.started_at),
        "finished_at": maybe_utc(row.finished_at),
        "spec": row.spec,
        "links": _links(row.id),
    }


def place_of(sight: Sight) -> QueuePlace | None:
    """Its place in the queue, while it is queued."""
    if sight.ahead is None:
        return None
    return QueuePlace(position=sight.ahead + 1, ahead_capped=sight.ahead >= sight.counted_to)


def progress_of(row: tables.Experiment) -> Progress:
    """How far the row has come."""
    return Progress(**_progress(row))


def failure_of(row: tables.Job) -> Failure | None:
    """Why the row failed, if it did, or was cancelled by no wish of its owner."""
    if row.state is not State.FAILED and row.failure_code != PRUNED:
        return None
    return Failure(code=row.failure_code or "unknown", message=row.failure_message or "")


def links_of(experiment_id: str) -> Links:
    """Where the parts of an experiment are."""
    return Links(**_links(experiment_id))


# A listing shows many: what is to be validated as a part of an experiment anyway is no object of its own before.
def _progress(row: tables.Experiment) -> dict[str, Any]:
    step, total_steps = row.step, row.total_steps
    return {"step": step, "total_steps": total_steps, "fraction": min(1.0, step / total_steps) if total_steps else 0.0}


def _links(experiment_id: str) -> dict[str, str]:
    base = f"/v1/experiments/{experiment_id}"
    return {"self_": base, **{name: base + path for name, path in _PATHS}}


_PATHS = tuple((name, f"/{name}") for name in Links.model_fields if name != "self_")
