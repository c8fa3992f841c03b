"""One request, one experiment, however often it is sent.

Invariant: a key is reserved, and the experiment it stands for is submitted, in one transaction; whoever sends the same
key meanwhile waits for that transaction at the unique key, and then gets its experiment.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from store import experiments
from store.columns import core
from store.database import clock, insert_if_absent
from store.errors import ExperimentNotFound, IdempotencyConflict
from store.experiments import Submission
from store.queueing import Limits
from store.tables import Experiment, IdempotencyKey

LIFETIME_SECONDS = 24 * 3600.0
_PURGED = ""
_KEY = core(IdempotencyKey).c


@dataclass(frozen=True)
class Scope:
    """Where a key counts: the same word of another owner, or for another path, is another key."""

    owner: str
    method: str
    path: str
    key: str


@dataclass(frozen=True)
class Submitted:
    """The experiment as it is now; `replayed` when an earlier request had made it."""

    experiment: Experiment
    replayed: bool


def submit_once(
    session: Session,
    scope: Scope,
    submission: Submission,
    *,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> Submitted:
    """Submit, or find what the same request submitted before.

    Raises `IdempotencyConflict` when the key stands for another spec, `ExperimentNotFound` when the experiment was
    deleted since, `QuotaExceeded`.
    """
    experiment_id = reserve(session, scope, submission.fingerprint)
    if experiment_id is not None:
        return Submitted(experiments.get(session, experiment_id), replayed=True)
    experiment = experiments.submit(session, submission, owner=scope.owner, device=device, key_id=key_id, limits=limits)
    bind(session, scope, experiment.id)
    return Submitted(experiment, replayed=False)


def reserve(session: Session, scope: Scope, fingerprint: str) -> str | None:
    """Take the key for this transaction, which must `bind` it (None), or the experiment it already stands for."""
    values = {
        **vars(scope),
        "fingerprint": fingerprint,
        "experiment_id": None,
        "created_at": clock(),
        "expires_at": clock() + LIFETIME_SECONDS,
    }
    if insert_if_absent(session, IdempotencyKey, values):
        return None
    expired = delete(core(IdempotencyKey)).where(*_is(scope), _KEY.expires_at < clock())
    session.execute(expired.returning(_KEY.key)).all()
    found = lookup(session, scope)
    if found is None:
        # It has expired, or whoever held it purged it between the two statements: now it is free.
        return reserve(session, scope, fingerprint)
    if found.fingerprint != fingerprint:
        raise IdempotencyConflict(scope.key)
    if found.experiment_id is None:
        raise ExperimentNotFound(_PURGED)
    return found.experiment_id


def bind(session: Session, scope: Scope, experiment_id: str) -> None:
    """Say which experiment a reserved key stands for."""
    statement = update(core(IdempotencyKey)).where(*_is(scope)).values(experiment_id=experiment_id)
    session.execute(statement)


def lookup(session: Session, scope: Scope) -> IdempotencyKey | None:
    """What a key stands for."""
    statement = select(IdempotencyKey).where(*_is(scope))
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def purge(session: Session) -> int:
    """Forget expired keys; how many there were."""
    statement = delete(core(IdempotencyKey)).where(_KEY.expires_at < clock()).returning(_KEY.key)
    return len(session.execute(statement).all())


def _is(scope: Scope) -> tuple[ColumnElement[bool], ...]:
    return (
        _KEY.owner == scope.owner,
        _KEY.method == scope.method,
        _KEY.path == scope.path,
        _KEY.key == scope.key,
    )
