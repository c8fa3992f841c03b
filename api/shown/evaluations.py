"""Evaluations: what was asked, how far it is, what was found."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Shown, maybe_utc, utc
from api.shown.experiments import Failure, failure_of
from api.shown.files import File
from api.shown.waiting import Living, waiting_for
from store import held, tables
from store.jobs.states import TERMINAL


class EvaluationLinks(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    experiment: str
    events: str
    attempts: str
    logs: str
    cancel: str
    kill: str
    pause: str
    resume: str
    retry: str


class Evaluation(Shown):
    """A checkpoint measured on data: with its own statistics, and with those that were asked for."""

    id: str
    experiment_id: str = Field(description="Whose checkpoint it is; it may be deleted by now.")
    checkpoint_id: str
    state: str = Field(description="queued, running, paused, succeeded, failed or cancelled.")
    is_terminal: bool = Field(description="Nothing will change any more.")
    desired: str | None = Field(description="What was asked of a running one and is not done yet.")
    phase: str | None = Field(description="restoring, loading_data or evaluating; while running.")
    waiting_for: str | None = Field(description="In words, while it is queued: a worker, a time.")
    device: str = Field(description="cpu or cuda: the queue it was submitted to.")
    attempt: int
    restarts: int
    failure: Failure | None
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    spec: dict[str, Any] = Field(description="Complete: what was asked, with the id of the checkpoint.")
    result: dict[str, Any] | None = Field(
        description="Once succeeded: `before` with the statistics of the checkpoint, `after` with those asked for "
        "(null for source, or where `reason` says why there are none): count, loss, and by the task accuracy, "
        "calibration_error, reliability, classes (precision, recall, f1, count, predicted), confusion (rows are true "
        "classes), sequence_accuracy, mean_absolute_error, r2, outputs; `class_names` where the data have some. "
        "Numbers that are not finite are words.",
    )
    files: list[File] = Field(description="What it left: of more than 100 classes, which were taken for which.")
    links: EvaluationLinks

    @classmethod
    def of(cls, row: tables.Evaluation, files: Sequence[tables.File], living: Living) -> "Evaluation":
        left = [file for file in files if file.kind != held.KIND]
        return cls(
            id=row.id,
            experiment_id=row.experiment_id,
            checkpoint_id=row.checkpoint_id,
            state=row.state,
            is_terminal=row.state in TERMINAL,
            desired=row.desired,
            phase=row.phase,
            waiting_for=waiting_for(row, living),
            device=row.device,
            attempt=row.attempt,
            restarts=row.restarts,
            failure=failure_of(row),
            created_at=utc(row.created_at),
            claimed_at=maybe_utc(row.claimed_at),
            finished_at=maybe_utc(row.finished_at),
            spec=row.spec,
            result=row.result,
            files=[File.of(file) for file in left],
            links=_links(row),
        )


def _links(row: tables.Evaluation) -> EvaluationLinks:
    base = f"/v1/evaluations/{row.id}"
    names = [name for name in EvaluationLinks.model_fields if name not in ("self_", "experiment")]
    below = {name: f"{base}/{name}" for name in names}
    return EvaluationLinks(self_=base, experiment=f"/v1/experiments/{row.experiment_id}", **below)
