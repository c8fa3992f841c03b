"""What diagnostics of an experiment have recorded: files of their own kind, one a diagnostic and step.

Invariant: what is read is what the trainer wrote, or an error (`store.files`).
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from bncore.recording import FILE_KIND, file_name
from store import files
from store.database import Database
from store.errors import DiagnosticNotFound
from store.jobs import eventlog
from store.tables import File

_NEAR = 5


def listed(session: Session, experiment_id: str) -> list[File]:
    """All of an experiment that can be read, by diagnostic and step."""
    return list(session.scalars(select(File).where(*_of(experiment_id)).order_by(File.name)))


def find(session: Session, experiment_id: str, kind: str, step: int | None = None) -> File:
    """The recording of a step, or the newest one. Raises `DiagnosticNotFound`."""
    mine = select(File).where(*_of(experiment_id))
    if step is None:
        ordered = mine.where(*_of_kind(kind)).order_by(File.step.desc()).limit(1)
        found = session.scalars(ordered).one_or_none()
    else:
        found = session.scalars(mine.where(File.name == file_name(kind, step))).one_or_none()
    if found is None:
        raise DiagnosticNotFound(kind, step, _near(session, experiment_id, kind, step or 0))
    return found


def content(database: Database, file_id: str) -> bytes:
    """Its bytes, verified. Raises `FileNotFound`, `FileDamaged`."""
    return b"".join(files.read(database, file_id))


def norm_warnings(session: Session, experiment_id: str) -> tuple[str, ...]:
    """What was last said to be wrong with the normalizations."""
    line = eventlog.newest(session, experiment_id, "norm_health")
    return () if line is None else tuple(line.data.get("warnings", ()))


def _near(session: Session, experiment_id: str, kind: str, step: int) -> Sequence[int]:
    steps = select(File.step).where(*_of(experiment_id), *_of_kind(kind))
    nearest = session.scalars(steps.order_by(func.abs(File.step - step), File.step).limit(_NEAR))
    return sorted(found for found in nearest if found is not None)


def _of(experiment_id: str) -> tuple[ColumnElement[bool], ...]:
    whole = (File.whole_at.is_not(None), File.dropped_at.is_(None))
    return (File.job_id == experiment_id, File.kind == FILE_KIND, *whole)


def _of_kind(kind: str) -> tuple[ColumnElement[bool], ...]:
    begin = f"{kind}-"
    # Not a comparison, whose order is the database's own.
    return (func.substr(File.name, 1, len(begin)) == begin,)
