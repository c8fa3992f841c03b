"""What nothing refers to, and what does not add up: there is none, whatever happened in whatever order.

It reads whole tables, so it is for tests and for whoever suspects a database.
"""

from sqlalchemy import ColumnElement, Select, String, cast, exists, func, literal, select, union_all
from sqlalchemy.orm import Session

from store.columns import core
from store.tables import Checkpoint, Content, ContentChunk, File, Job, Owner

_FILES, _CONTENTS, _CHUNKS = core(File).c, core(Content).c, core(ContentChunk).c
_CHECKPOINTS, _JOBS, _OWNERS = core(Checkpoint).c, core(Job).c, core(Owner).c


def find(session: Session) -> list[str]:
    """A sentence for each; of what is dropped and not purged yet nothing is said."""
    return list(session.scalars(_FAULTS))


def _fault(name: ColumnElement[str], what: str, *conditions: ColumnElement[bool]) -> Select[str]:
    return select(name + literal(what)).where(*conditions)


def _lacks(column: ColumnElement[str], parent: ColumnElement[str]) -> ColumnElement[bool]:
    return ~exists().where(parent == column)


_OF_CHECKPOINT = (_CHECKPOINTS.weights_id == _FILES.id) | (_CHECKPOINTS.state_id == _FILES.id)
_CHUNK = _CHUNKS.content_id + "/" + cast(_CHUNKS.seq, String)
_USES = select(func.count()).where(_FILES.content_id == _CONTENTS.id).scalar_subquery()
_BYTES = select(func.coalesce(func.sum(_CONTENTS.size), 0)).where(_CONTENTS.owner == _OWNERS.id).scalar_subquery()
_FAULTS = union_all(
    _fault(_FILES.id, " is of no job that there is", _FILES.job_id.is_not(None), _lacks(_FILES.job_id, _JOBS.id)),
    _fault(
        _FILES.id,
        " is kept, and its job is deleted",
        _FILES.dropped_at.is_(None),
        exists().where(_JOBS.id == _FILES.job_id, _JOBS.deleted_at.is_not(None)),
    ),
    _fault(
        _FILES.id,
        " is of no checkpoint",
        _FILES.dropped_at.is_(None),
        _FILES.kind.in_(("weights", "training_state")),
        ~exists().where(_OF_CHECKPOINT),
    ),
    _fault(
        _FILES.id,
        " is dropped, and its checkpoint is not",
        exists().where(_OF_CHECKPOINT, _CHECKPOINTS.dropped_at.is_(None), _FILES.dropped_at.is_not(None)),
    ),
    _fault(_FILES.id, " has no content", _lacks(_FILES.content_id, _CONTENTS.id)),
    _fault(_CONTENTS.id, " counts other uses than it has", _CONTENTS.uses != _USES),
    _fault(_CHUNK, " is of no content", _lacks(_CHUNKS.content_id, _CONTENTS.id)),
    _fault(_OWNERS.id, " has other bytes than are counted", _OWNERS.stored_bytes != _BYTES),
)
