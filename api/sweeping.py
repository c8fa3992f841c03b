"""From a sweep that is asked for to one that is stored.

Invariant: what it comes to is worked out in the lane of large bodies, where it holds up no short request, and is
complete before the transaction begins. Faults point into what was sent.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from api.completing import Completing
from api.deps import Admitted
from api.headers import idempotency_key
from api.refusals import InvalidBody
from api.shown.sweep_plans import SweepWarning, sweep_warnings
from api.shown.waiting import Living
from bncore.spec import Fault, SpecError
from bncore.spec.sweep import Complete, Extension, Point, SweepSpec
from store import sweeps, tables
from store.errors import DatasetUnusable
from store.idempotency import Scope
from store.sweeps import SweepSubmission

Asked = TypeVar("Asked", SweepSpec, Extension)
Stored = tuple[tables.Sweep, bool]


async def stored(
    asked: Admitted,
    what: Asked,
    expanded: Callable[[Complete], list[Point]],
    store: Callable[[Session, Scope | None, SweepSubmission], Stored],
) -> Stored:
    """What `store` made of it, and whether an earlier request with this key had.

    Raises `InvalidBody`, `IdempotencyConflict`, `SweepNotFound`, and what `store` raises.
    """
    service, key = asked.service, idempotency_key(asked.request)
    path, method = asked.request.url.path, asked.request.method
    scope = None if key is None else Scope(owner=asked.caller.owner, method=method, path=path, key=key)
    if scope is not None:
        known = await service.reads.run(functools.partial(_replayed, asked, scope, sweeps.fingerprint_of(what)))
        if known is not None:
            return known, True
    submission = await service.bodies.run(lambda: SweepSubmission.of(what, experiments_of(asked, expanded)))
    return await service.writes.run(functools.partial(_store, asked, scope, submission, store))


def completed_template(asked: Admitted, spec: SweepSpec) -> SweepSpec:
    """The sweep with all that the data set and the checkpoint of its template say. Raises `InvalidBody`."""
    try:
        template = Completing(asked.service.database, asked.caller.owner).completed(spec.template)
    except (SpecError, DatasetUnusable) as error:
        faults = error.faults if isinstance(error, SpecError) else [Fault("/data/id", str(error), error.code)]
        raise InvalidBody([Fault(f"/template{one.pointer}", one.detail, one.code) for one in faults]) from None
    return spec.model_copy(update={"template": template})


def experiments_of(
    asked: Admitted, expanded: Callable[[Complete], list[Point]], *, completes: bool = True
) -> list[Point]:
    """What a sweep comes to, with all that its data set and checkpoint say, unless it is complete already.

    Raises `InvalidBody`.
    """
    completing = Completing(asked.service.database, asked.caller.owner)

    def complete(document: Any) -> Any:
        try:
            return completing.completed(document)
        except DatasetUnusable as error:
            raise SpecError([Fault("/data/id", str(error), error.code)]) from None

    try:
        return expanded(complete if completes else _as_it_is)
    except SpecError as error:
        raise InvalidBody(error.faults) from None


def warnings_about(
    asked: Admitted, expanded: Callable[[Complete], list[Point]], known: list[Point], living: Living
) -> list[SweepWarning]:
    """What is worth saying of the points of a sweep that is stored: those that are known, or of a repeat its own again.

    Nothing of a repeat whose data set is gone since.
    """
    try:
        points = known or experiments_of(asked, expanded)
    except InvalidBody:
        return []
    return sweep_warnings([one for one in points if one.seed == points[0].seed], living)


def _as_it_is(document: Any) -> Any:
    return document


def _replayed(asked: Admitted, scope: Scope, fingerprint: str) -> tables.Sweep | None:
    with asked.service.database.read() as session:
        return sweeps.replayed(session, scope, fingerprint)


def _store(
    asked: Admitted,
    scope: Scope | None,
    submission: SweepSubmission,
    store: Callable[[Session, Scope | None, SweepSubmission], Stored],
) -> Stored:
    try:
        with asked.service.database.write() as session:
            return store(session, scope, submission)
    except DatasetUnusable as error:
        # It was deleted since it was read.
        raise InvalidBody([Fault("/template/data/id", str(error), error.code)]) from None
