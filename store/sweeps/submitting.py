"""Sweeps come in, and grow by seeds.

Invariant: what the experiments come to is worked out before the transaction (`SweepSubmission.of`); inside it only
statements happen. A repeated request makes nothing new: its key stands for the first experiment that it made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from bncore.spec import fingerprint_of as digest_of
from bncore.spec.shared_parts import Writing
from bncore.spec.sweep import Extension, Point, SweepSpec
from store import bulk, experiments, idempotency, owners
from store.columns import core
from store.database import clock, now
from store.errors import ExperimentNotFound, IdempotencyConflict, SweepChanged, SweepNotFound
from store.experiments import Submission
from store.idempotency import Scope
from store.ids import new_id
from store.queueing import ROWS_A_STATEMENT, Limits, Submitter
from store.sweeps.finding import get, of_experiment
from store.tables import Sweep, SweepExperiment

_MEMBER = core(SweepExperiment).c


@dataclass(frozen=True)
class SweepSubmission:
    """Experiments of a sweep with everything that is stored of them."""

    points: Sequence[Point]
    submissions: Sequence[Submission]
    fingerprint: str

    @classmethod
    def of(cls, asked: SweepSpec | Extension, points: Sequence[Point]) -> "SweepSubmission":
        writing = Writing()
        # Seeds that come later are of points that have been kept.
        rest_at = asked.prune.first_steps if isinstance(asked, SweepSpec) and asked.prune is not None else None
        found = [Submission.of(point.spec, writing=writing, rest_at=rest_at) for point in points]
        return cls(points, found, fingerprint_of(asked))


def submit(
    session: Session,
    spec: SweepSpec,
    submission: SweepSubmission,
    *,
    owner: str,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> Sweep:
    """Queue a sweep with all its experiments. Raises what `experiments.submit_many` does."""
    where: Mapping[str, Any] = {"owner": owner, "device": device, "key_id": key_id, "limits": limits}
    return _submit(session, spec, submission, where)[0]


def submit_once(
    session: Session, scope: Scope, spec: SweepSpec, submission: SweepSubmission, **where: Any
) -> tuple[Sweep, bool]:
    """The same, or what the same request submitted before; whether it had. Raises `IdempotencyConflict`,
    `SweepNotFound` when it was deleted since."""
    known = _known(session, scope, submission.fingerprint)
    if known is not None:
        return known, True
    sweep, first = _submit(session, spec, submission, {"owner": scope.owner, **where})
    idempotency.bind(session, scope, first)
    return sweep, False


def extend(
    session: Session, sweep: Sweep, submission: SweepSubmission, *, key_id: str | None, limits: Limits | None
) -> None:
    """Queue more experiments of a sweep. Raises `SweepChanged` where it has other seeds than when they were made."""
    _extend(session, sweep, submission, {"key_id": key_id, "limits": limits})


def extend_once(
    session: Session, scope: Scope, sweep: Sweep, submission: SweepSubmission, **where: Any
) -> tuple[Sweep, bool]:
    """The same, or what the same request did before; whether it had."""
    known = _known(session, scope, submission.fingerprint)
    if known is not None:
        return known, True
    idempotency.bind(session, scope, _extend(session, sweep, submission, where))
    return sweep, False


def add(session: Session, sweep: Sweep, submission: SweepSubmission) -> None:
    """Queue more experiments behind those that a sweep has. The caller has the owner's turn."""
    _append(session, sweep, submission, {})


def fingerprint_of(asked: SweepSpec | Extension) -> str:
    """Of a request, not of what it comes to."""
    return digest_of(json.dumps(asked.model_dump(mode="json"), sort_keys=True))


def replayed(session: Session, scope: Scope, fingerprint: str) -> Sweep | None:
    """What a request with this key has made, if there was one. Raises `IdempotencyConflict`, `SweepNotFound`."""
    found = idempotency.lookup(session, scope)
    if found is None or found.expires_at < now(session):
        return None
    if found.fingerprint != fingerprint:
        raise IdempotencyConflict(scope.key)
    if found.experiment_id is None:
        raise SweepNotFound("")
    return of_experiment(session, found.experiment_id)


def _known(session: Session, scope: Scope, fingerprint: str) -> Sweep | None:
    try:
        experiment_id = idempotency.reserve(session, scope, fingerprint)
    except ExperimentNotFound:
        raise SweepNotFound("") from None
    return None if experiment_id is None else of_experiment(session, experiment_id)


def _submit(
    session: Session, spec: SweepSpec, submission: SweepSubmission, where: Mapping[str, Any]
) -> tuple[Sweep, str]:
    who = Submitter(where["owner"], where["device"], where.get("key_id"))
    ids = experiments.submit_ids(session, submission.submissions, who, where.get("limits"))
    sweep_id = new_id("swp")
    values = {
        "id": sweep_id,
        "owner": where["owner"],
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "seeds": _seeds(submission.points),
        "points": len({point.number for point in submission.points}),
        "search_state": None if spec.search is None else "open",
        "prune_state": None if spec.prune is None else "open",
        "rungs_decided": None if spec.prune is None else 0,
        "queue": where["device"],
        "created_at": clock(),
    }
    session.execute(insert(core(Sweep)).values(values))
    _add(session, sweep_id, submission.points, ids, 0)
    return get(session, sweep_id), ids[0]


def _extend(session: Session, sweep: Sweep, submission: SweepSubmission, where: Mapping[str, Any]) -> str:
    # Whoever extends it too waits here, and then finds other seeds.
    owners.take_turn(session, sweep.owner)
    table = core(Sweep)
    seeds = [*sweep.seeds, *_seeds(submission.points)]
    known = session.execute(select(table.c.seeds).where(table.c.id == sweep.id)).scalar_one_or_none()
    if known is None:
        raise SweepNotFound(sweep.id)
    if known != sweep.seeds:
        raise SweepChanged(sweep.id)
    session.execute(update(table).where(table.c.id == sweep.id).values(seeds=seeds))
    return _append(session, sweep, submission, where)


def _append(session: Session, sweep: Sweep, submission: SweepSubmission, where: Mapping[str, Any]) -> str:
    who = Submitter(sweep.owner, sweep.queue, where.get("key_id"))
    ids = experiments.submit_ids(session, submission.submissions, who, where.get("limits"))
    last = select(func.max(_MEMBER.place)).where(_MEMBER.sweep_id == sweep.id)
    begin = session.execute(last).scalar_one_or_none()
    _add(session, sweep.id, submission.points, ids, 0 if begin is None else begin + 1)
    return ids[0]


def _add(session: Session, sweep_id: str, points: Sequence[Point], ids: Sequence[str], begin: int) -> None:
    rows = [
        {
            "experiment_id": experiment_id,
            "sweep_id": sweep_id,
            "place": begin + number,
            "point": point.number,
            "arm": point.arm,
            "seed": point.seed,
            "values": point.at,
        }
        for number, (point, experiment_id) in enumerate(zip(points, ids, strict=True))
    ]
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        bulk.insert_rows(session, core(SweepExperiment), rows[start : start + ROWS_A_STATEMENT])


def _seeds(points: Sequence[Point]) -> list[int]:
    return list(dict.fromkeys(point.seed for point in points))
