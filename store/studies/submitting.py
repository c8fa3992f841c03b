"""Studies come in: one, or an article with all its parts.

Invariant: what a study comes to is worked out before the transaction; inside it only statements happen. Its experiments
are submitted later, by whoever takes it a stage further.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from bncore.spec import fingerprint_of as digest_of
from bncore.spec.study import ARTICLE, StudySpec
from bncore.studies.asking import Asked, document_of, fingerprint_of
from store import idempotency, queueing
from store.columns import core
from store.database import now
from store.errors import ExperimentNotFound, IdempotencyConflict, QuotaExceeded
from store.idempotency import Scope
from store.queueing import Limits, Newcomer, Submitter
from store.studies.finding import get
from store.study_errors import StudyNotFound
from store.tables import Study, StudyJob

PRIORITY = 50
"""A step takes a moment and keeps workers busy: before all experiments, behind what somebody waits for."""
MAX_RESTARTS = 20
"""Of all its steps together."""
PARTS = "parts"
"""What the stage of an article is called."""


@dataclass(frozen=True)
class StudySubmission:
    """A study with everything that is stored of it; of an article, its parts."""

    spec: StudySpec
    asked: Asked | None
    fingerprint: str
    """Of the request."""
    parts: Sequence["StudySubmission"] = ()

    @property
    def experiments(self) -> int:
        """How many are submitted first."""
        if self.asked is None:
            return sum(part.experiments for part in self.parts)
        first = self.asked.first
        return len(first.places) * len(first.seeds)


def request_fingerprint(spec: Any) -> str:
    """Of a request, not of what it comes to."""
    return digest_of(json.dumps(spec.model_dump(mode="json"), sort_keys=True))


def submit(session: Session, submission: StudySubmission, who: Submitter, limits: Limits | None = None) -> Study:
    """Queue a study. Raises `QuotaExceeded`, also where what it begins with could never be queued at once."""
    limits = limits or Limits()
    if limits.queued_jobs is not None and submission.experiments > limits.queued_jobs:
        raise QuotaExceeded("queued_jobs", limits.queued_jobs)
    # An article behind its parts: it is locked after them.
    studies = [*submission.parts, submission]
    newcomers = [Newcomer(MAX_RESTARTS) for _ in studies]
    jobs = queueing.enter(session.connection(), "study", newcomers, who, limits, PRIORITY)
    whole = str(jobs[-1]["id"])
    rows = [_row(one, job, "" if one is submission else whole) for one, job in zip(studies, jobs, strict=True)]
    session.execute(insert(core(Study)), rows)
    if submission.parts:
        parts = [_part(place, str(job["id"]), whole) for place, job in enumerate(jobs[:-1])]
        session.execute(insert(core(StudyJob)), parts)
    return get(session, whole)


def submit_once(
    session: Session, scope: Scope, submission: StudySubmission, who: Submitter, limits: Limits
) -> tuple[Study, bool]:
    """The same, or what the same request submitted before; whether it had. Raises `IdempotencyConflict`,
    `StudyNotFound` when it was deleted since."""
    try:
        known = idempotency.reserve(session, scope, submission.fingerprint)
    except ExperimentNotFound:
        raise StudyNotFound("") from None
    if known is not None:
        return get(session, known), True
    study = submit(session, submission, who, limits)
    idempotency.bind(session, scope, study.id)
    return study, False


def replayed(session: Session, scope: Scope, fingerprint: str) -> Study | None:
    """What a request with this key has made, if there was one. Raises `IdempotencyConflict`, `StudyNotFound`."""
    found = idempotency.lookup(session, scope)
    if found is None or found.expires_at < now(session):
        return None
    if found.fingerprint != fingerprint:
        raise IdempotencyConflict(scope.key)
    return get(session, found.experiment_id or "")


def _row(one: StudySubmission, job: Mapping[str, Any], part_of: str) -> dict[str, Any]:
    design = None if one.asked is None else one.asked.design
    return {
        "id": job["id"],
        "submitted_by": job["owner"],
        "submitted_at": job["created_at"],
        "part_of": part_of,
        "name": one.spec.name,
        "tags": one.spec.tags,
        "claim": one.spec.claim,
        "asked": one.spec.model_dump(mode="json"),
        "design": None if design is None else document_of(design),
        "fingerprint": None if design is None else fingerprint_of(design),
        "seeds": 0 if design is None else design.seeds,
        "most": 0 if design is None else design.most,
        "extensions": [],
        "stage": PARTS if one.spec.claim == ARTICLE else None,
        "waiting": False,
        "held": False,
        "judged": 0,
        "outcomes": None,
    }


def _part(place: int, study_id: str, whole: str) -> dict[str, Any]:
    named: dict[str, Any] = {
        "arm": None,
        "setting": {},
        "seed": 0,
        "of_experiment": None,
        "evaluation": None,
        "evaluated": False,
    }
    return {"job_id": study_id, "study_id": whole, "place": place, "stage": PARTS, **named}
