"""From the form of a study to what is stored of it: laid out where large bodies are, stored where one writes.

Invariant: a repeat that is known is answered before anything is laid out again; what is refused is refused before
anything is stored.
"""

import functools
import json
from typing import Any

from sqlalchemy.orm import Session

from api.completing import Completing
from api.deps import Admitted
from api.devices import queue_of
from api.headers import idempotency_key
from api.refusals import InvalidBody
from api.shown.studies import StudyNow
from api.shown.study_warnings import StudyWarning, study_warnings
from api.shown.waiting import Living
from bncore.spec import Fault, SpecError
from bncore.spec.study import ARTICLE, StudySpec
from bncore.studies.asking import asked_of, checked, claims_of
from bncore.studies.claim import Experiment, experiments
from store import studies, tables
from store.errors import DatasetUnusable
from store.idempotency import Scope
from store.queueing import Submitter
from store.studies import StudySubmission

Stored = tuple[tables.Study, bool]


async def stored(asked: Admitted, spec: StudySpec, living: Living) -> Stored:
    """The study, and whether an earlier request with this key had made it.

    Raises `InvalidBody`, `IdempotencyConflict`, `StudyNotFound`, `QuotaExceeded`.
    """
    service, key = asked.service, idempotency_key(asked.request)
    path, method = asked.request.url.path, asked.request.method
    scope = None if key is None else Scope(owner=asked.caller.owner, method=method, path=path, key=key)
    if scope is not None:
        known = await service.reads.run(functools.partial(_replayed, asked, scope, spec))
        if known is not None:
            return known, True
    submission = await service.bodies.run(functools.partial(_submission, asked, spec))
    _require_extras(submission, living)
    return await service.writes.run(functools.partial(_store, asked, scope, submission, living))


async def warnings_about(asked: Admitted, study: tables.Study, living: Living) -> list[StudyWarning]:
    """What is worth saying of what a study trains first, of an article of each of its parts; the same of a repeat."""
    service = asked.service
    rows = await service.reads.run(functools.partial(_with_parts, asked, study))
    return await service.bodies.run(lambda: [one for row in rows for one in _warnings(row, living)])


def _with_parts(asked: Admitted, study: tables.Study) -> list[tables.Study]:
    if study.claim != ARTICLE:
        return [study]
    with asked.service.database.read() as session:
        return studies.parts(session, study.id)


def _warnings(study: tables.Study, living: Living) -> list[StudyWarning]:
    try:
        return study_warnings(study.claim, asked_of(study.asked), living)
    except SpecError:
        # A repeat of what another version has accepted.
        return []


def _replayed(asked: Admitted, scope: Scope, spec: StudySpec) -> tables.Study | None:
    with asked.service.database.read() as session:
        return studies.replayed(session, scope, studies.request_fingerprint(spec))


def _submission(asked: Admitted, spec: StudySpec) -> StudySubmission:
    completing = Completing(asked.service.database, asked.caller.owner)

    def complete(document: Any) -> Any:
        try:
            return completing.completed(document)
        except DatasetUnusable as error:
            raise SpecError([Fault("/data/id", str(error), error.code)]) from None

    fingerprint = studies.request_fingerprint(spec)
    try:
        if spec.claim == ARTICLE:
            each = [checked(part, complete) for part in claims_of(spec).values()]
            parts = [StudySubmission(part, one, studies.request_fingerprint(part)) for part, one in each]
            return StudySubmission(spec, None, fingerprint, parts)
        completed, one = checked(spec, complete)
        return StudySubmission(completed, one, fingerprint)
    except SpecError as error:
        raise InvalidBody(error.faults) from None


def _require_extras(submission: StudySubmission, living: Living) -> None:
    """Data that come with a package of their own have to be there on some worker; where nobody is connected, or says
    which packages it has, it is left to the experiments to say so."""
    workers = [process for process in living or () if process.kind == "worker"]
    if not workers or any("mlxtend" in one.versions or "scipy" not in one.versions for one in workers):
        return
    for part in submission.parts or [submission]:
        assert part.asked is not None
        if any(_names_mnist(one) for one in experiments(part.asked.design, part.asked.first)):
            detail = "Its data are mnist5k, which no connected worker has: pip install 'bnlab[mnist5k]' there"
            raise InvalidBody([Fault("/scale" if part.spec.compare is None else "/compare", detail, "extra_missing")])


def _names_mnist(one: Experiment) -> bool:
    return bool((one.spec.get("data") or {}).get("kind") == "mnist5k")


def _store(asked: Admitted, scope: Scope | None, submission: StudySubmission, living: Living) -> Stored:
    service = asked.service
    with service.database.write() as session:
        device = queue_of(service, _device(submission), living, session)
        who = Submitter(asked.caller.owner, device, asked.caller.id)
        if scope is None:
            return studies.submit(session, submission, who, service.limits), False
        return studies.submit_once(session, scope, submission, who, service.limits)


def _device(submission: StudySubmission) -> str:
    """A study waits in one queue with all of its experiments."""
    first = submission.asked or submission.parts[0].asked
    assert first is not None
    one = experiments(first.design, first.first)[0]
    wanted: str = (one.spec.get("resources") or {}).get("device", "auto")
    return wanted


def report_document(session: Session, study: tables.Study) -> dict[str, Any]:
    """What `bncore.studies.reporting.document` is made of: plain JSON; of an article, with its parts. Raises
    `NotJudged`."""
    whole = _documented(session, study)
    if study.claim != ARTICLE:
        series = studies.courses(session, study.design or {}, whole["runs"])
        return {**whole, "series": series}
    judged = {each["study"] for each in whole["verdicts"]}
    parts = [part for part in studies.parts(session, study.id) if part.id in judged]
    return {**whole, "parts": [_documented(session, part) for part in parts]}


def _documented(session: Session, study: tables.Study) -> dict[str, Any]:
    verdict = studies.verdict(session, study.id)
    shown = StudyNow.seen(study, studies.standing(session, study.id), None)
    return {
        "study": json.loads(shown.model_dump_json()),
        "claim": None if study.claim == ARTICLE else study.claim,
        "design": study.design,
        "fingerprint": study.fingerprint,
        "number": verdict.number,
        "judged_at": verdict.judged_at,
        "verdicts": verdict.verdicts,
        "taken": verdict.taken,
        "runs": verdict.runs,
        "facts": verdict.facts,
    }
