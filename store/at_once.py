"""What an attempt has made since it was last asked, small and new, stored in one go with the lines that say so.

Invariant: after it is what is there when one thing after another had been stored (`store.files`, `store.checkpoints`).
Whatever has come before, as after a transaction whose answer was lost, is left to those.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, exists, select
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event
from bncore.spec.limits import NAME_CHARS
from store import checkpoints, files, results
from store.checkpoints import Part
from store.columns import Words, core, one_of
from store.files import Small
from store.jobs.leases import Go, Lease, Stop
from store.tables import Checkpoint, Experiment, File, Job
from store.text import storable


class CameBefore(Exception):
    """Some of it is there already, or some of it replaces another."""


Saved = tuple[CheckpointSaved, Mapping[Part, bytes]]
"""A checkpoint, and the bytes of its files."""

_JOB, _EXPERIMENT, _FILE, _CHECKPOINT = (core(one).c for one in (Job, Experiment, File, Checkpoint))
_NAMED = exists().where(
    _FILE.job_id == bindparam("of_job"),
    one_of(_FILE.kind, bindparam("of_kinds", type_=Words())),
    one_of(_FILE.name, bindparam("of_names", type_=Words())),
    _FILE.dropped_at.is_(None),
)
_SAVED = exists().where(
    _CHECKPOINT.experiment_id == bindparam("of_job"),
    _CHECKPOINT.attempt == bindparam("of_attempt"),
    one_of(_CHECKPOINT.kind, bindparam("of_saved", type_=Words())),
    _CHECKPOINT.step.between(bindparam("from_step"), bindparam("to_step")),
)
_STANDING = (
    select(_JOB.owner, _EXPERIMENT.spec, (_NAMED | _SAVED).label("came_before"))
    .select_from(core(Job).outerjoin(core(Experiment), _EXPERIMENT.id == _JOB.id))
    .where(_JOB.id == bindparam("of_job"))
)


def store(
    session: Session,
    lease: Lease,
    events: Sequence[Event],
    made: Sequence[Small],
    saved: Sequence[Saved],
    owner_bytes: int | None = None,
) -> Go | Stop:
    """Renew the lease and store events, files of one chunk and checkpoints of such.

    Raises `StaleLease`, `QuotaExceeded`, `FileDamaged`, `CameBefore`, and ValueError for a file of more or less than a
    chunk; then nothing of it is to be committed.
    """
    answer = results.append(session, lease, events)
    if not made and not saved:
        return answer
    standing = session.execute(_STANDING, _asked(lease, made, saved)).one()
    if standing.came_before or _is_ambiguous(made, saved):
        raise CameBefore
    parts = [(event, checkpoints.small_files(event, data)) for event, data in saved]
    small = [*made, *(file for _, of_it in parts for file in of_it.values())]
    files.store_new(session, standing.owner, lease.job_id, small, owner_bytes)
    with_ids = [(event, {part: file.id for part, file in of_it.items()}) for event, of_it in parts]
    checkpoints.store_new(session, lease, standing.spec or {}, with_ids)
    return answer


def _is_ambiguous(made: Sequence[Small], saved: Sequence[Saved]) -> bool:
    """Whether one of them replaces another."""
    names = {(one.announced.kind, one.announced.name) for one in made}
    moments = {(event.checkpoint_kind, event.step) for event, _ in saved}
    return len(names) < len(made) or len(moments) < len(saved)


def _asked(lease: Lease, made: Sequence[Small], saved: Sequence[Saved]) -> dict[str, Any]:
    steps = [event.step for event, _ in saved]
    return {
        "of_job": lease.job_id,
        "of_attempt": lease.attempt,
        "of_kinds": sorted({one.announced.kind for one in made}),
        "of_names": sorted({storable(one.announced.name, NAME_CHARS) for one in made}),
        "of_saved": sorted({event.checkpoint_kind for event, _ in saved}),
        # Without any, a span that is empty.
        "from_step": min(steps, default=1),
        "to_step": max(steps, default=0),
    }
