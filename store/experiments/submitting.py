"""Experiments come in: one, or thousands in one transaction.

Invariant: what a spec comes to is worked out before the transaction (`Submission.of`), so that inside it only
statements happen; the job, the experiment, its tags, the first line of its log and the bell are one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from bncore.spec import SPEC_VERSION, ExperimentSpec, data_shape, fingerprint_of
from bncore.spec.experiment import canonical
from bncore.spec.plan import steps_per_epoch, total_steps
from bncore.spec.shared_parts import Writing
from store import bulk, held, owners, queueing
from store.columns import core, unattached
from store.datasets import using
from store.prepared import Data
from store.queueing import ROWS_A_STATEMENT, Limits, Newcomer, Submitter
from store.tables import Experiment, ExperimentTag


@dataclass(frozen=True)
class Submission:
    """A spec with everything that is stored of it."""

    document: dict[str, Any]
    fingerprint: str
    name: str | None
    tags: dict[str, str]
    total_steps: int
    max_restarts: int
    deadline_seconds: float | None
    retry_of: str | None = None
    start_from: str | None = None
    """The id of the checkpoint that it begins with."""
    rest_at: int | None = None
    """The step at which it rests until that is decided which it is for."""

    @classmethod
    def of(
        cls,
        spec: ExperimentSpec,
        *,
        retry_of: str | None = None,
        writing: Writing | None = None,
        rest_at: int | None = None,
    ) -> "Submission":
        """`writing` is for many that share parts, and are kept meanwhile."""
        writing = writing or Writing()
        return cls(
            document=writing.document(spec),
            fingerprint=fingerprint_of(writing.canonical(spec)),
            name=spec.name,
            tags=dict(spec.tags),
            total_steps=_total_steps(spec),
            max_restarts=spec.max_restarts,
            deadline_seconds=spec.deadline_seconds,
            retry_of=retry_of,
            start_from=None if spec.start_from is None else spec.start_from.checkpoint,
            rest_at=rest_at,
        )

    def with_seed(self, seed: int) -> "Submission":
        """The same experiment with another seed."""
        document = {**self.document, "train": {**self.document["train"], "seed": seed}}
        return replace(self, document=document, fingerprint=fingerprint_of(canonical(document)))


def submit(
    session: Session,
    submission: Submission,
    *,
    owner: str,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> Experiment:
    """Queue a new experiment on the queue of `device` (cpu or cuda). Raises `QuotaExceeded`."""
    return submit_many(session, [submission], owner=owner, device=device, key_id=key_id, limits=limits)[0]


def submit_many(
    session: Session,
    submissions: Sequence[Submission],
    *,
    owner: str,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> list[Experiment]:
    """Queue many, in this order, all or none. Raises `QuotaExceeded`, and `DatasetUnusable` where they name data sets,
    before anything is written; and `CheckpointNotFound` where one begins with a checkpoint that is gone.

    The rows that come back are as they were stored, and belong to no session.
    """
    who = Submitter(owner, device, key_id)
    return [
        unattached(Experiment, {**job, **row}, (*queueing.JOB_COLUMNS, *_EXPERIMENT_COLUMNS))
        for row, job in _store(session, submissions, who, limits or Limits())
    ]


def submit_ids(
    session: Session, submissions: Sequence[Submission], who: Submitter, limits: Limits | None = None
) -> list[str]:
    """The same where nobody looks at the rows: their ids. A row to be read costs as much as to store it."""
    return [row["id"] for row, _ in _store(session, submissions, who, limits or Limits())]


def _store(
    session: Session, submissions: Sequence[Submission], who: Submitter, limits: Limits
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The columns of each experiment, and those of its job."""
    connection = session.connection()
    named = [Data.of(one.document) for one in submissions]
    if any(named):
        # The turn first, as whoever has it may be about to hold the same data sets.
        owners.take_turn(connection, who.owner)
        using.hold(connection, who.owner, [data.dataset_id for data in named if data])
    newcomers = [Newcomer(one.max_restarts, one.deadline_seconds) for one in submissions]
    jobs = queueing.enter(connection, "experiment", newcomers, who, limits)
    rows = [_row(submission, job) for submission, job in zip(submissions, jobs, strict=True)]
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        _insert(connection, rows[start : start + ROWS_A_STATEMENT])
    using.use(connection, {job["id"]: data.dataset_id for job, data in zip(jobs, named, strict=True) if data})
    for one, job in zip(submissions, jobs, strict=True):
        if one.start_from is not None:
            held.hold(session, who.owner, job["id"], held.find(session, who.owner, one.start_from)[0])
    return list(zip(rows, jobs, strict=True))


def _total_steps(spec: ExperimentSpec) -> int:
    """As `plan` has it, without laying out the network."""
    return total_steps(spec.train, steps_per_epoch(spec.train, data_shape(spec.data)))


def _row(submission: Submission, job: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the experiment."""
    return {
        "id": job["id"],
        "submitted_by": job["owner"],
        "submitted_at": job["created_at"],
        "name": submission.name,
        "tags": submission.tags,
        "spec": submission.document,
        "spec_version": SPEC_VERSION,
        "fingerprint": submission.fingerprint,
        "retry_of": submission.retry_of,
        "step": 0,
        "total_steps": submission.total_steps,
        "rest_at": submission.rest_at,
    }


_EXPERIMENT_COLUMNS = tuple(core(Experiment).c.keys())


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    bulk.insert_rows(connection, core(Experiment), rows)
    tags = [
        {
            "experiment_id": row["id"],
            "key": key,
            "value": value,
            "submitted_by": row["submitted_by"],
            "submitted_at": row["submitted_at"],
        }
        for row in rows
        for key, value in row["tags"].items()
    ]
    bulk.insert_rows(connection, core(ExperimentTag), tags)
