"""How an experiment stands, in one answer."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from api.shown import Real, Shown
from api.shown.experiments import (
    Failure,
    Links,
    Progress,
    QueuePlace,
    failure_of,
    links_of,
    place_of,
    progress_of,
)
from api.shown.waiting import Living, waiting_for
from store import tables
from store.experiments import Sight
from store.jobs.states import TERMINAL


class Best(Shown):
    """The best value so far of the series that weights are chosen by."""

    metric: str = Field(description="Of the validation data, where the data set has some, else of the test data.")
    value: Real
    step: int | None = Field(default=None, description="The first that had it, where that is known.")


class Summary(Shown):
    """The run in a few numbers; what is not known yet is null."""

    steps: int | None
    seconds: Real | None = Field(description="Seconds of training, over all attempts; known at the end.")
    test_accuracy: Real | None
    test_loss: Real | None
    best_test_accuracy: Real | None = Field(description="The greatest so far: chosen on the test data.")
    steps_to_target: int | None = Field(description="The first evaluated step at or above the target accuracy.")
    diverged_at: int | None = Field(default=None, description="The first step whose loss was not finite.")
    metrics: dict[str, Real] = Field(default_factory=dict, description="The last evaluation, by series.")
    best: Best | None = None


class ResultCheckpoint(Shown):
    id: str
    kind: str
    step: int
    size: int
    sha256: str
    metrics: dict[str, Any]

    @classmethod
    def of(cls, row: tables.Checkpoint) -> "ResultCheckpoint":
        file = row.weights
        return cls(id=row.id, kind=row.kind, step=row.step, size=file.size, sha256=file.sha256, metrics=row.metrics)


class Results(Shown):
    """Everything a table or a progress bar shows of an experiment, in one answer."""

    id: str
    name: str | None
    state: str
    is_terminal: bool
    phase: str | None
    waiting_for: str | None = Field(description="In words, while it is queued: a worker, a time.")
    queue: QueuePlace | None = Field(description="While it is queued; changes without the ETag.")
    stop_reason: str | None
    failure: Failure | None
    progress: Progress
    eta_seconds: float | None = Field(description="While it runs: to its last step, at this attempt's pace so far.")
    attempt: int
    summary: Summary
    metrics: dict[str, Real] = Field(description="The newest value of every series.")
    warnings: list[str] = Field(description="What is wrong with the normalizations, in words: norm_health's newest.")
    checkpoints: list[ResultCheckpoint] = Field(
        description="The 20 of the greatest steps, and of kind best the newest; `links.checkpoints` has all."
    )
    links: Links

    @classmethod
    def of(
        cls,
        sight: Sight,
        series: Sequence[tables.MetricSeries],
        checkpoints: Sequence[tables.Checkpoint],
        warnings: Sequence[str],
        living: Living,
    ) -> "Results":
        row = sight.experiment
        return cls(
            id=row.id,
            name=row.name,
            state=row.state,
            is_terminal=row.state in TERMINAL,
            phase=row.phase,
            waiting_for=waiting_for(row, living),
            queue=place_of(sight),
            stop_reason=row.stop_reason,
            failure=failure_of(row),
            progress=progress_of(row),
            eta_seconds=sight.seconds_left,
            attempt=row.attempt,
            summary=_summary(row, {found.key: found for found in series}, checkpoints),
            metrics={found.key: found.last for found in series},
            warnings=list(warnings),
            checkpoints=[ResultCheckpoint.of(found) for found in checkpoints],
            links=links_of(row.id),
        )


def _summary(
    row: tables.Experiment, series: dict[str, tables.MetricSeries], checkpoints: Sequence[tables.Checkpoint]
) -> Summary:
    """The trainer's own summary once there is one; until then what the series say."""
    accuracy, loss = series.get("test/accuracy"), series.get("test/loss")
    known: dict[str, Any] = {
        "steps": row.step,
        "seconds": None,
        "test_accuracy": accuracy and accuracy.last,
        "test_loss": loss and loss.last,
        "best_test_accuracy": accuracy and accuracy.maximum,
        "steps_to_target": None,
        "metrics": {key: found.last for key, found in series.items() if key.startswith(("test/", "validation/"))},
        "best": _best(series, checkpoints),
    }
    return Summary.model_validate(known | (row.summary or {}))


def _best(series: dict[str, tables.MetricSeries], checkpoints: Sequence[tables.Checkpoint]) -> dict[str, Any] | None:
    """As `bncore.train.goal` chooses it; the step is that of the checkpoint that was kept for it."""
    part = "validation" if any(key.startswith("validation/") for key in series) else "test"
    key = next((key for key in (f"{part}/accuracy", f"{part}/loss") if key in series), None)
    if key is None:
        return None
    value = series[key].maximum if key.endswith("accuracy") else series[key].minimum
    if value is None:
        return None
    steps = [row.step for row in checkpoints if row.kind == "best" and row.metrics.get(key) == value]
    return {"metric": key, "value": value, "step": max(steps, default=None)}
