"""What may be left at the end: no row without its parent, no byte that does not count, no file, no process."""

from collections import deque

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from bench.chaos.report import Finding
from bench.chaos.scene import Scene
from store import checkpoints, orphans
from store.errors import CheckpointDamaged, CheckpointNotFound
from store.jobs.states import TERMINAL
from store.tables import (
    Bell,
    Checkpoint,
    Content,
    Dataset,
    DatasetUse,
    Evaluation,
    Experiment,
    ExperimentTag,
    File,
    IdempotencyKey,
    Job,
    JobEvent,
    MetricSegment,
    MetricSeries,
    Prediction,
    Upload,
    UploadPart,
)

_PARENTS: tuple[tuple[str, InstrumentedAttribute[str], InstrumentedAttribute[str]], ...] = (
    ("experiments", Experiment.id, Job.id),
    ("data sets", Dataset.id, Job.id),
    ("evaluations", Evaluation.id, Job.id),
    ("predictions", Prediction.id, Job.id),
    ("uses of data sets", DatasetUse.job_id, Job.id),
    ("used data sets", DatasetUse.dataset_id, Dataset.id),
    ("parts of uploads", UploadPart.upload_id, Upload.id),
    ("tags", ExperimentTag.experiment_id, Experiment.id),
    ("events", JobEvent.job_id, Job.id),
    ("series", MetricSeries.experiment_id, Job.id),
    ("segments", MetricSegment.experiment_id, Job.id),
    ("checkpoints", Checkpoint.experiment_id, Job.id),
)


def is_clean(session: Session) -> bool:
    """Whether housekeeping has nothing left to do and every bell has been rung."""
    waiting = (
        select(Checkpoint.id).where(_unneeded()),
        select(File.id).where(File.dropped_at.is_not(None)),
        select(Content.id).where(Content.uses == 0),
        select(Bell.id),
    )
    return all(session.execute(one.limit(1)).first() is None for one in waiting)


def rows(scene: Scene) -> Finding:
    """6. Of the database."""
    finding = Finding("6 no orphan row, no bytes but those announced")
    with scene.stack.database.read() as session:
        for name, child, parent in _PARENTS:
            table, other = child.class_.__table__, parent.class_.__table__
            mine, its = table.c[child.key], other.c[parent.key]
            lost = session.execute(select(func.count()).select_from(table).where(mine.not_in(select(its)))).scalar_one()
            if lost:
                finding.fault(f"{lost} {name} without a parent")
        _look_for_lost(session, finding)
        for row in session.scalars(select(Checkpoint).where(_unneeded())):
            finding.fault(f"{row.id} of {row.experiment_id} was not purged", row.experiment_id)
        if session.execute(select(func.count()).select_from(Bell)).scalar_one():
            finding.fault("bells hang that nobody rings")
        stored = session.scalars(select(Checkpoint)).all()
    finding.note = f"{len(stored)} checkpoints"
    for row in stored:
        _compare_bytes(scene, row, finding)
    return finding


def files(scene: Scene) -> Finding:
    """6. Of the directory of runs, when everything has ended."""
    finding = Finding("6a no run directory left")
    jobs = [path for prefix in ("exp", "dat", "evl", "prd") for path in scene.runs_dir.glob(f"{prefix}_*")]
    for path in jobs:
        finding.fault(str(path.relative_to(scene.runs_dir)), path.name)
    for path in [*scene.runs_dir.glob(".waiting/*"), *scene.runs_dir.glob(".room-*")]:
        finding.fault(str(path.relative_to(scene.runs_dir)))
    return finding


def processes(scene: Scene, codes: dict[str, int]) -> Finding:
    """6. Of the machine, when everything has been told to end."""
    finding = Finding("6b every process ends when told to, none is left")
    for name, code in codes.items():
        if code:
            finding.fault(f"{name} ended with code {code} on SIGTERM, with nothing in its way")
    for process in scene.monitor.leftovers():
        finding.fault(f"process {process.pid} ({process.status()}) is left: {' '.join(process.cmdline())}")
    return finding


def _unneeded() -> ColumnElement[bool]:
    ended = exists().where(Job.id == Checkpoint.experiment_id, Job.state.in_(TERMINAL))
    return Checkpoint.dropped_at.is_not(None) | (Checkpoint.whole_at.is_(None) & ended)


def _look_for_lost(session: Session, finding: Finding) -> None:
    for subject in (Experiment, Dataset, Evaluation, Prediction):
        kind, theirs = subject.__mapper__.polymorphic_identity, subject.__table__.c.id
        for job_id in session.scalars(select(Job.id).where(Job.kind == kind, Job.id.not_in(select(theirs)))):
            finding.fault(f"{job_id} has no {kind}", job_id)
    for key in session.scalars(select(IdempotencyKey.key).where(IdempotencyKey.experiment_id.is_(None))):
        finding.fault(f"the key {key} stands for nothing")
    for orphan in orphans.find(session):
        finding.fault(orphan)


def _compare_bytes(scene: Scene, row: Checkpoint, finding: Finding) -> None:
    if row.id in scene.ledger.damaged:
        return
    parts: tuple[checkpoints.Part, ...] = ("weights",) if row.state_id is None else ("weights", "state")
    for part in parts:
        try:
            deque(checkpoints.read(scene.stack.database, row.id, part), maxlen=0)
        except (CheckpointDamaged, CheckpointNotFound) as error:
            finding.fault(f"{row.id} of {row.experiment_id}: {error}", row.experiment_id)
