"""The bytes of checkpoints, in chunks, so that none is ever whole in memory.

Invariant: a checkpoint is shown only when every byte it announced is there; each chunk is a fenced transaction of its
own; and the newest restorable checkpoint is never given up before a newer one is whole.
"""

import json
from collections.abc import Iterator
from typing import Literal

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved
from store.database import Database, clock
from store.errors import CheckpointIncomplete, CheckpointNotFound
from store.eventlog import Entry
from store.eventlog import append as append_to_log
from store.ids import new_id
from store.leases import Go, Lease, Stop, renew
from store.models import Checkpoint, CheckpointChunk, Experiment
from store.retention import retain

CHUNK_BYTES = 1 << 20

File = Literal["weights", "state"]


def begin(session: Session, lease: Lease, event: CheckpointSaved, *, lease_seconds: float) -> str:
    """Announce a checkpoint and get its id; the same one when this attempt has announced it before."""
    renew(session, lease, lease_seconds=lease_seconds)
    statement = select(Checkpoint.id).where(
        Checkpoint.experiment_id == lease.experiment_id,
        Checkpoint.attempt == lease.attempt,
        Checkpoint.kind == event.checkpoint_kind,
        Checkpoint.step == event.step,
    )
    known = session.scalars(statement).one_or_none()
    if known is not None:
        return known
    values = {
        "id": new_id("ckp"),
        "experiment_id": lease.experiment_id,
        "attempt": lease.attempt,
        "kind": event.checkpoint_kind,
        "step": event.step,
        "epoch": event.epoch,
        "metrics": json.loads(event.model_dump_json(include={"metrics"}))["metrics"],
        "size": event.weights.size,
        "sha256": event.weights.sha256,
        "state_size": None if event.state is None else event.state.size,
        "state_sha256": None if event.state is None else event.state.sha256,
        "created_at": clock(),
    }
    return session.scalars(insert(Checkpoint).values(values).returning(Checkpoint.id)).one()


def write_chunk(
    session: Session, lease: Lease, checkpoint_id: str, file: File, seq: int, data: bytes, *, lease_seconds: float
) -> Go | Stop:
    """Store one chunk (numbered from 0, all but the last `CHUNK_BYTES` long); a repeat replaces it."""
    answer = renew(session, lease, lease_seconds=lease_seconds)
    if len(data) > CHUNK_BYTES:
        raise ValueError(f"a chunk has at most {CHUNK_BYTES} bytes")
    checkpoint = _own(session, lease, checkpoint_id)
    if checkpoint.whole_at is None:
        place = {"checkpoint_id": checkpoint_id, "file": file, "seq": seq}
        session.execute(delete(CheckpointChunk).filter_by(**place), execution_options={"synchronize_session": False})
        session.execute(insert(CheckpointChunk).values(**place, data=data))
    return answer


def complete(session: Session, lease: Lease, checkpoint_id: str, *, lease_seconds: float) -> Go | Stop:
    """Show the checkpoint, and give up those it replaces. Raises `CheckpointIncomplete` if bytes are missing."""
    answer = renew(session, lease, lease_seconds=lease_seconds)
    checkpoint = _own(session, lease, checkpoint_id)
    if checkpoint.whole_at is not None:
        return answer
    _verify(session, checkpoint, "weights", checkpoint.size)
    _verify(session, checkpoint, "state", checkpoint.state_size or 0)
    shown = update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(whole_at=clock())
    session.execute(shown, execution_options={"synchronize_session": False})
    spec = session.scalars(select(Experiment.spec).where(Experiment.id == lease.experiment_id)).one()
    retain(session, lease.experiment_id, keep_periodic=bool(spec.get("checkpoint", {}).get("keep_periodic")))
    data = {"checkpoint_id": checkpoint_id, "kind": checkpoint.kind, "step": checkpoint.step}
    message = f"Checkpoint ({checkpoint.kind}) of step {checkpoint.step} is stored."
    append_to_log(session, lease.experiment_id, lease.attempt, [Entry("checkpoint", message, data)])
    return answer


def checkpoints(session: Session, experiment_id: str) -> list[Checkpoint]:
    """The checkpoints of an experiment that can be read, newest step first."""
    statement = select(Checkpoint).where(
        Checkpoint.experiment_id == experiment_id, Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None)
    )
    return list(session.scalars(statement.order_by(Checkpoint.step.desc(), Checkpoint.kind)))


def get(session: Session, experiment_id: str, checkpoint_id: str) -> Checkpoint:
    """One readable checkpoint of an experiment. Raises `CheckpointNotFound`."""
    for checkpoint in checkpoints(session, experiment_id):
        if checkpoint.id == checkpoint_id:
            return checkpoint
    raise CheckpointNotFound(checkpoint_id)


def read(database: Database, checkpoint_id: str, file: File) -> Iterator[bytes]:
    """The chunks of one file, each read in a short session of its own.

    Raises `CheckpointNotFound` at the call, or on the way when the checkpoint is purged while it is read.
    """
    with database.read() as session:
        size = _readable_size(session, checkpoint_id, file)
    return _chunks(database, checkpoint_id, file, size)


def _own(session: Session, lease: Lease, checkpoint_id: str) -> Checkpoint:
    statement = select(Checkpoint).where(
        Checkpoint.id == checkpoint_id,
        Checkpoint.experiment_id == lease.experiment_id,
        Checkpoint.attempt == lease.attempt,
    )
    checkpoint = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if checkpoint is None:
        raise CheckpointNotFound(checkpoint_id)
    return checkpoint


def _verify(session: Session, checkpoint: Checkpoint, file: File, expected: int) -> None:
    mine = (CheckpointChunk.checkpoint_id == checkpoint.id, CheckpointChunk.file == file)
    statement = select(func.coalesce(func.sum(func.length(CheckpointChunk.data)), 0)).where(*mine)
    stored = int(session.execute(statement).scalar_one())
    numbers = session.scalars(select(CheckpointChunk.seq).where(*mine).order_by(CheckpointChunk.seq)).all()
    if stored != expected or list(numbers) != list(range(-(-expected // CHUNK_BYTES))):
        raise CheckpointIncomplete(checkpoint.id, file, expected, stored)


def _readable_size(session: Session, checkpoint_id: str, file: File) -> int:
    size = Checkpoint.size if file == "weights" else Checkpoint.state_size
    statement = (
        select(size)
        .join(Experiment, Experiment.id == Checkpoint.experiment_id)
        .where(
            Checkpoint.id == checkpoint_id,
            Checkpoint.whole_at.is_not(None),
            Checkpoint.dropped_at.is_(None),
            Experiment.deleted_at.is_(None),
        )
    )
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise CheckpointNotFound(checkpoint_id)
    return found


def _chunks(database: Database, checkpoint_id: str, file: File, size: int) -> Iterator[bytes]:
    for seq in range(-(-size // CHUNK_BYTES)):
        statement = select(CheckpointChunk.data).filter_by(checkpoint_id=checkpoint_id, file=file, seq=seq)
        with database.read() as session:
            data = session.scalars(statement).one_or_none()
        if data is None:
            raise CheckpointNotFound(checkpoint_id)
        yield data
