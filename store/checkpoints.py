"""Checkpoints: files of a training, shown together once all of them are whole.

Invariant: a checkpoint is shown only when its files are; and the newest restorable one is never given up before a newer
one is whole. What is wrong with a file is said of its checkpoint.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from sqlalchemy import ColumnElement, insert, select, tuple_, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, StoredFile
from store import files, retention
from store.columns import core
from store.database import Database, clock
from store.errors import CheckpointDamaged, CheckpointNotFound, FileDamaged, FileNotFound
from store.files import Announced, Begun, Small
from store.ids import new_id
from store.jobs import eventlog
from store.jobs.eventlog import Entry
from store.jobs.leases import Go, Lease, Stop, renew
from store.tables import Checkpoint, Experiment, Job

Part = Literal["weights", "state"]
"""Which file of a checkpoint."""
_NEW_WHOLE = insert(core(Checkpoint)).values(created_at=clock(), whole_at=clock())
FILE_KINDS: Mapping[Part, str] = {"weights": "weights", "state": "training_state"}


@dataclass(frozen=True)
class BegunCheckpoint:
    id: str
    files: Mapping[Part, Begun]


def begin(
    session: Session, lease: Lease, event: CheckpointSaved, *, owner_bytes: int | None = None
) -> BegunCheckpoint | None:
    """Announce a checkpoint and its files; the same ones when this attempt has announced it before, and None when it
    has given it up since.

    Raises `StaleLease`, and `QuotaExceeded` when the owner would have more than `owner_bytes`.
    """
    renew(session, lease)
    known = _announced_before(session, lease, event)
    if known is not None:
        return None if known.dropped_at is not None else BegunCheckpoint(known.id, _begun(known))
    owner = session.execute(select(core(Job).c.owner).where(core(Job).c.id == lease.job_id)).scalar_one()
    begun = {
        part: files.announce(session, owner, lease.job_id, _announced(part, event.step, stored), owner_bytes)
        for part, stored in parts(event).items()
    }
    values = _row(lease, event, {part: one.file_id for part, one in begun.items()})
    session.execute(insert(core(Checkpoint)).values(created_at=clock(), **values))
    return BegunCheckpoint(str(values["id"]), begun)


def complete(session: Session, lease: Lease, checkpoint_id: str, digests: Mapping[Part, str]) -> Go | Stop:
    """Show the checkpoint, and give up those it replaces. `digests` are those of what is stored (`files.digest`).

    Raises `StaleLease`, `CheckpointNotFound`, `FileIncomplete` if bytes are missing, `CheckpointDamaged` if they are
    not the announced.
    """
    answer = renew(session, lease)
    checkpoint = _own(session, lease, checkpoint_id)
    if checkpoint.whole_at is not None:
        return answer
    for part, begun in _begun(checkpoint).items():
        if not begun.whole:
            with said_of(checkpoint_id, part):
                files.become_whole(session, begun.file_id, digests.get(part, ""))
    whole = update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(whole_at=clock())
    session.execute(whole, execution_options={"synchronize_session": False})
    spec = session.scalars(select(core(Experiment).c.spec).where(core(Experiment).c.id == lease.job_id)).one()
    retention.retain(session, lease.job_id, keep_periodic=_keeps_periodic(spec))
    shown = _shown(checkpoint_id, checkpoint.kind, checkpoint.step)
    eventlog.append(session, lease.job_id, lease.attempt, [shown])
    return answer


def store_new(
    session: Session, lease: Lease, spec: Mapping[str, Any], saved: Sequence[tuple[CheckpointSaved, Mapping[Part, str]]]
) -> None:
    """Show checkpoints that were not announced before, with the ids of their files, which are shown already; and give
    up those that they replace. `spec` is the experiment's.

    For whoever holds the job: the caller has renewed in this transaction.
    """
    if not saved:
        return
    rows = [_row(lease, event, file_ids) for event, file_ids in saved]
    session.execute(_NEW_WHOLE, rows)
    retention.retain(session, lease.job_id, keep_periodic=_keeps_periodic(spec))
    shown = [_shown(row["id"], row["kind"], row["step"]) for row in rows]
    eventlog.append(session, lease.job_id, lease.attempt, shown)


def small_files(event: CheckpointSaved, data: Mapping[Part, bytes]) -> dict[Part, Small]:
    """Files of a checkpoint that have one chunk each, and `data` in them."""
    return {part: Small(_announced(part, event.step, stored), data[part]) for part, stored in parts(event).items()}


def give_up(session: Session, lease: Lease, checkpoint_id: str, why: str) -> None:
    """Drop a checkpoint that is not what it should be, of whichever attempt, and say so in the log.

    Nothing else will refer to its bytes. Raises `StaleLease`.
    """
    renew(session, lease)
    mine = (Checkpoint.id == checkpoint_id, Checkpoint.experiment_id == lease.job_id, Checkpoint.dropped_at.is_(None))
    found = session.scalars(select(Checkpoint).where(*mine)).one_or_none()
    if found is not None:
        files.condemn(session, [begun.file_id for begun in _begun(found).values()])
        retention.drop(session, *mine)
        data = {"checkpoint_id": checkpoint_id, "kind": found.kind, "step": found.step}
        message = f"Checkpoint ({found.kind}) of step {found.step} is given up: {why}"
        eventlog.append(session, lease.job_id, lease.attempt, [Entry("checkpoint_damaged", message, data)])


Position = tuple[int, str, str]
"""Where a listing of checkpoints goes on: behind this step, kind and id."""


def listed(
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


def read(database: Database, checkpoint_id: str, part: Part) -> Iterator[bytes]:
    """The chunks of one file of a checkpoint that is shown, verified (`files.read`).

    Raises `CheckpointNotFound` at the call or on the way, and `CheckpointDamaged`.
    """
    column = core(Checkpoint).c.weights_id if part == "weights" else core(Checkpoint).c.state_id
    shown = (Checkpoint.id == checkpoint_id, Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None))
    with database.read() as session:
        file_id = session.execute(select(column).where(*shown)).scalar_one_or_none()
    if file_id is None:
        raise CheckpointNotFound(checkpoint_id)
    with said_of(checkpoint_id, part):
        chunks = files.read(database, file_id)
    return _said_of(checkpoint_id, part, chunks)


@contextmanager
def said_of(checkpoint_id: str, part: Part) -> Iterator[None]:
    """What is wrong with a file is wrong with the checkpoint it is of."""
    try:
        yield
    except FileNotFound:
        raise CheckpointNotFound(checkpoint_id) from None
    except FileDamaged as error:
        raise CheckpointDamaged(checkpoint_id, part, error.why) from None


def _announced_before(session: Session, lease: Lease, event: CheckpointSaved) -> Checkpoint | None:
    statement = select(Checkpoint).where(
        Checkpoint.experiment_id == lease.job_id,
        Checkpoint.attempt == lease.attempt,
        Checkpoint.kind == event.checkpoint_kind,
        Checkpoint.step == event.step,
    )
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


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


def parts(event: CheckpointSaved) -> dict[Part, StoredFile]:
    """Its files as they lie in the run directory."""
    return {"weights": event.weights} if event.state is None else {"weights": event.weights, "state": event.state}


def _announced(part: Part, step: int, stored: StoredFile) -> Announced:
    return Announced(PurePath(stored.file).name, FILE_KINDS[part], step, stored.size, stored.sha256)


def _row(lease: Lease, event: CheckpointSaved, file_ids: Mapping[Part, str]) -> dict[str, Any]:
    return {
        "id": new_id("ckp"),
        "experiment_id": lease.job_id,
        "attempt": lease.attempt,
        "kind": event.checkpoint_kind,
        "step": event.step,
        "epoch": event.epoch,
        "metrics": json.loads(event.model_dump_json(include={"metrics"}))["metrics"],
        "weights_id": file_ids["weights"],
        "state_id": file_ids.get("state"),
    }


def _shown(checkpoint_id: str, kind: str, step: int) -> Entry:
    data = {"checkpoint_id": checkpoint_id, "kind": kind, "step": step}
    return Entry("checkpoint", f"Checkpoint ({kind}) of step {step} is stored.", data)


def _keeps_periodic(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("checkpoint", {}).get("keep_periodic"))


def _begun(checkpoint: Checkpoint) -> dict[Part, Begun]:
    begun: dict[Part, Begun] = {"weights": Begun(checkpoint.weights_id, checkpoint.weights.whole_at is not None)}
    if checkpoint.state is not None:
        begun["state"] = Begun(checkpoint.state.id, checkpoint.state.whole_at is not None)
    return begun


def _said_of(checkpoint_id: str, part: Part, chunks: Iterator[bytes]) -> Iterator[bytes]:
    with said_of(checkpoint_id, part):
        yield from chunks
