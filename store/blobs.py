"""The bytes of checkpoints, in chunks, so that none is ever whole in memory.

Invariant: a checkpoint is shown only when every byte it announced is there and their SHA-256 is the announced one; each
chunk is a fenced transaction of its own; and the newest restorable checkpoint is never given up before a newer one is
whole.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Literal

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved
from store import owners
from store.columns import core
from store.database import Database, clock
from store.errors import CheckpointDamaged, CheckpointIncomplete, CheckpointNotFound, QuotaExceeded
from store.ids import new_id
from store.jobs import eventlog
from store.jobs.eventlog import Entry
from store.jobs.leases import Go, Lease, Stop, renew
from store.retention import retain
from store.tables import Checkpoint, CheckpointChunk, Experiment, Job

CHUNK_BYTES = 1 << 20

File = Literal["weights", "state"]
_CHUNKS = core(CheckpointChunk)
_NEW_CHUNK = insert(_CHUNKS)
_NO_CHUNK = delete(_CHUNKS).where(*(column == bindparam(f"of_{column.name}") for column in _CHUNKS.primary_key))


def begin(session: Session, lease: Lease, event: CheckpointSaved, *, owner_bytes: int | None = None) -> str:
    """Announce a checkpoint and get its id; the same one when this attempt has announced it before.

    Raises `StaleLease`, and `QuotaExceeded` when the owner would have more than `owner_bytes`.
    """
    renew(session, lease)
    statement = select(Checkpoint.id).where(
        Checkpoint.experiment_id == lease.job_id,
        Checkpoint.attempt == lease.attempt,
        Checkpoint.kind == event.checkpoint_kind,
        Checkpoint.step == event.step,
    )
    known = session.scalars(statement).one_or_none()
    if known is not None:
        return known
    values = {
        "id": new_id("ckp"),
        "experiment_id": lease.job_id,
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
    size = event.weights.size + (0 if event.state is None else event.state.size)
    owner = session.scalars(select(core(Job).c.owner).where(core(Job).c.id == lease.job_id)).one()
    if not owners.add_bytes(session, owner, size, at_most=owner_bytes):
        raise QuotaExceeded("stored_bytes", owner_bytes or 0)
    session.execute(insert(core(Checkpoint)).values(values))
    return str(values["id"])


def write_chunk(session: Session, lease: Lease, checkpoint_id: str, file: File, seq: int, data: bytes) -> Go | Stop:
    """Store one chunk (numbered from 0, all but the last `CHUNK_BYTES` long); a repeat replaces it."""
    answer = renew(session, lease)
    if len(data) > CHUNK_BYTES:
        raise ValueError(f"a chunk has at most {CHUNK_BYTES} bytes")
    checkpoint = _own(session, lease, checkpoint_id)
    if checkpoint.whole_at is None:
        place = {"checkpoint_id": checkpoint_id, "file": file, "seq": seq}
        session.execute(_NO_CHUNK, {f"of_{name}": value for name, value in place.items()})
        session.execute(_NEW_CHUNK, {**place, "data": data})
    return answer


def complete(session: Session, lease: Lease, checkpoint_id: str, digests: Mapping[File, str]) -> Go | Stop:
    """Show the checkpoint, and give up those it replaces. `digests` are those of what is stored (`digest`).

    Raises `StaleLease`, `CheckpointIncomplete` if bytes are missing, `CheckpointDamaged` if they are not the announced.
    """
    answer = renew(session, lease)
    checkpoint = _own(session, lease, checkpoint_id)
    if checkpoint.whole_at is not None:
        return answer
    for file, size, sha256 in _announced(checkpoint):
        _verify(session, checkpoint, file, size)
        if digests.get(file) != sha256:
            raise CheckpointDamaged(checkpoint_id, file, f"its SHA-256 is {digests.get(file)}, not {sha256}")
    shown = update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(whole_at=clock())
    session.execute(shown, execution_options={"synchronize_session": False})
    spec = session.scalars(select(core(Experiment).c.spec).where(core(Experiment).c.id == lease.job_id)).one()
    retain(session, lease.job_id, keep_periodic=bool(spec.get("checkpoint", {}).get("keep_periodic")))
    data = {"checkpoint_id": checkpoint_id, "kind": checkpoint.kind, "step": checkpoint.step}
    message = f"Checkpoint ({checkpoint.kind}) of step {checkpoint.step} is stored."
    eventlog.append(session, lease.job_id, lease.attempt, [Entry("checkpoint", message, data)])
    return answer


def give_up(session: Session, lease: Lease, checkpoint_id: str, why: str) -> None:
    """Drop a checkpoint that is not what it should be, of whichever attempt, and say so in the log.

    Raises `StaleLease`.
    """
    renew(session, lease)
    table = core(Checkpoint)
    mine = (table.c.id == checkpoint_id, table.c.experiment_id == lease.job_id, table.c.dropped_at.is_(None))
    dropped = update(table).where(*mine).values(dropped_at=clock()).returning(table.c.kind, table.c.step)
    found = session.execute(dropped).one_or_none()
    if found is not None:
        data = {"checkpoint_id": checkpoint_id, "kind": found.kind, "step": found.step}
        message = f"Checkpoint ({found.kind}) of step {found.step} is given up: {why}"
        eventlog.append(session, lease.job_id, lease.attempt, [Entry("checkpoint_damaged", message, data)])


Position = tuple[int, str, str]
"""Where a listing of checkpoints goes on: behind this step, kind and id."""


def checkpoints(
    session: Session, experiment_id: str, after: Position | None = None, limit: int | None = None
) -> list[Checkpoint]:
    """The checkpoints of an experiment that can be read, newest step first; at most `limit`."""
    statement = select(Checkpoint).where(*readable(experiment_id))
    if after is not None:
        step, kind, checkpoint_id = after
        behind = tuple_(Checkpoint.kind, Checkpoint.id) > tuple_(kind, checkpoint_id)
        # The step is said twice, so that an index can be entered at it.
        statement = statement.where(Checkpoint.step <= step, (Checkpoint.step < step) | behind)
    ordered = statement.order_by(Checkpoint.step.desc(), Checkpoint.kind, Checkpoint.id)
    return list(session.scalars(ordered.limit(limit)))


def get(session: Session, experiment_id: str, checkpoint_id: str) -> Checkpoint:
    """One readable checkpoint of an experiment. Raises `CheckpointNotFound`."""
    statement = select(Checkpoint).where(Checkpoint.id == checkpoint_id, *readable(experiment_id))
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise CheckpointNotFound(checkpoint_id)
    return found


def readable(experiment_id: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a checkpoint of an experiment is shown."""
    return (
        Checkpoint.experiment_id == experiment_id,
        Checkpoint.whole_at.is_not(None),
        Checkpoint.dropped_at.is_(None),
    )


def digest(database: Database, checkpoint_id: str, file: File) -> str:
    """The SHA-256 of what is stored of a file, whole or not, in hex."""
    found = hashlib.sha256()
    with database.read() as session:
        chunks = select(CheckpointChunk.seq).filter_by(checkpoint_id=checkpoint_id, file=file)
        numbers = session.scalars(chunks.order_by(CheckpointChunk.seq)).all()
    for seq in numbers:
        with database.read() as session:
            found.update(chunk(session, checkpoint_id, file, seq))
    return found.hexdigest()


def read(database: Database, checkpoint_id: str, file: File) -> Iterator[bytes]:
    """The chunks of one file, each read in a short session of its own.

    Raises `CheckpointNotFound` at the call, or on the way when the checkpoint is purged while it is read; and
    `CheckpointDamaged` where a chunk is missing, or after the last one when they are not what was announced.
    """
    with database.read() as session:
        size, sha256 = _readable_file(session, checkpoint_id, file)
    return _chunks(database, checkpoint_id, file, size, sha256)


def chunk(session: Session, checkpoint_id: str, file: File, seq: int) -> bytes:
    """One chunk of a file. Raises `CheckpointNotFound`, or `CheckpointDamaged` where it is missing from one kept."""
    statement = select(CheckpointChunk.data).filter_by(checkpoint_id=checkpoint_id, file=file, seq=seq)
    data = session.scalars(statement).one_or_none()
    if data is not None:
        return data
    dropped = select(core(Checkpoint).c.dropped_at).where(core(Checkpoint).c.id == checkpoint_id)
    if session.execute(dropped).all() == [(None,)]:
        raise CheckpointDamaged(checkpoint_id, file, f"chunk {seq} is missing")
    raise CheckpointNotFound(checkpoint_id)


def _own(session: Session, lease: Lease, checkpoint_id: str) -> Checkpoint:
    statement = select(Checkpoint).where(
        Checkpoint.id == checkpoint_id,
        Checkpoint.experiment_id == lease.job_id,
        Checkpoint.attempt == lease.attempt,
    )
    checkpoint = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if checkpoint is None:
        raise CheckpointNotFound(checkpoint_id)
    return checkpoint


def _announced(checkpoint: Checkpoint) -> list[tuple[File, int, str]]:
    files: list[tuple[File, int, str]] = [("weights", checkpoint.size, checkpoint.sha256)]
    if checkpoint.state_size is not None and checkpoint.state_sha256 is not None:
        files.append(("state", checkpoint.state_size, checkpoint.state_sha256))
    return files


def _verify(session: Session, checkpoint: Checkpoint, file: File, expected: int) -> None:
    mine = (CheckpointChunk.checkpoint_id == checkpoint.id, CheckpointChunk.file == file)
    statement = select(func.coalesce(func.sum(func.length(CheckpointChunk.data)), 0)).where(*mine)
    stored = int(session.execute(statement).scalar_one())
    numbers = session.scalars(select(CheckpointChunk.seq).where(*mine).order_by(CheckpointChunk.seq)).all()
    if stored != expected or list(numbers) != list(range(-(-expected // CHUNK_BYTES))):
        raise CheckpointIncomplete(checkpoint.id, file, expected, stored)


def _readable_file(session: Session, checkpoint_id: str, file: File) -> tuple[int, str]:
    """Its size and SHA-256."""
    weights = file == "weights"
    statement = (
        select(
            Checkpoint.size if weights else Checkpoint.state_size,
            Checkpoint.sha256 if weights else Checkpoint.state_sha256,
        )
        .join(Job, Job.id == Checkpoint.experiment_id)
        .where(
            Checkpoint.id == checkpoint_id,
            Checkpoint.whole_at.is_not(None),
            Checkpoint.dropped_at.is_(None),
            Job.deleted_at.is_(None),
        )
    )
    found = session.execute(statement).one_or_none()
    if found is None or found[0] is None or found[1] is None:
        raise CheckpointNotFound(checkpoint_id)
    return found[0], found[1]


def _chunks(database: Database, checkpoint_id: str, file: File, size: int, sha256: str) -> Iterator[bytes]:
    read = hashlib.sha256()
    for seq in range(-(-size // CHUNK_BYTES)):
        with database.read() as session:
            data = chunk(session, checkpoint_id, file, seq)
        read.update(data)
        yield data
    if read.hexdigest() != sha256:
        raise CheckpointDamaged(checkpoint_id, file, "what is stored is not what was announced")
