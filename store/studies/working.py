"""What a worker needs of a study, and what each step leaves: the study's part in `store.work`.

A step reads what is stored (`found`), asks a process what follows from it, and stores that (`advance`): experiments
of the next stage, evaluations of those of the last, or a verdict; or nothing, where something has not ended yet.

Invariant: all of a step is one transaction under the lease. A stage is submitted once: a step that is repeated finds
it there, and waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from bncore.spec.study import ARTICLE
from bncore.studies.asking import asked_of, fingerprint_of
from store import evaluations, experiments, owners
from store.columns import core, one_of
from store.database import Database, clock
from store.errors import CheckpointNotFound
from store.experiments import Submission
from store.jobs import leases
from store.jobs.eventlog import Entry
from store.jobs.leases import Lease, Stop
from store.jobs.moves import Moved
from store.jobs.states import State
from store.prepared import Prepared
from store.queueing import ROWS_A_STATEMENT, Limits, Submitter
from store.studies import finding, measuring, waking
from store.tables import Study, StudyJob, StudyVerdict
from store.text import finite_json

_STUDY, _MEMBER, _VERDICT = core(Study).c, core(StudyJob).c, core(StudyVerdict).c


@dataclass(frozen=True)
class Member:
    """Where an experiment of a batch stands."""

    arm: str
    setting: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Rest:
    """Something that it waits for has not ended."""


@dataclass(frozen=True)
class NextStage:
    """Experiments to run next, in this order."""

    stage: str
    members: Sequence[Member]
    submissions: Sequence[Submission]
    limits: Limits


@dataclass(frozen=True)
class ToEvaluate:
    """Evaluations of the last checkpoints of experiments that have ended, by (experiment, name)."""

    experiments: Sequence[str]
    """All that were looked at, those that can have none as well."""
    wanted: Mapping[tuple[str, str], evaluations.Submission]
    limits: Limits


@dataclass(frozen=True)
class Judged:
    """The verdicts on all of its questions, and from which rows."""

    verdicts: Sequence[Mapping[str, Any]]
    taken: Mapping[str, Sequence[int]]
    runs: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


Step = Rest | NextStage | ToEvaluate | Judged


def prepare(_session: Session, _lease: Lease) -> Prepared:
    """What is found is read later, by itself: it takes longer than a claim may."""
    return Prepared({})


def found(database: Database, study_id: str, between: Callable[[], None]) -> dict[str, Any]:
    """All that a step decides by, as JSON: what is asked, and of every run what it came to.

    Of an article, the same of each of its parts. `rests` where something has not ended yet, and nothing else then.
    """
    with database.read() as session:
        study = finding.get(session, study_id)
        if waking.has_living(session, study_id):
            return {"rests": True}
        parts = finding.parts(session, study_id)
    if study.claim == ARTICLE:
        each = [(part, _found(database, part, between)) for part in parts]
        return {"parts": [{**of, "study": one.id, "judged": one.state is State.SUCCEEDED} for one, of in each]}
    return _found(database, study, between)


def advance(session: Session, lease: Lease, step: Step) -> Moved:
    """Store what a step came to, and end it. Raises `StaleLease`, `QuotaExceeded`, `DatasetUnusable`.

    A wish of its owner that the worker has not heard of yet comes first.
    """
    study = finding.get(session, lease.job_id)
    # Before the lease: whoever changes all of a study takes the turn, and then locks its row.
    owners.take_turn(session, study.owner)
    answer = leases.renew(session, lease)
    if isinstance(answer, Stop):
        return leases.stop_as_asked(session, lease, State.PAUSED if answer.reason == "pause" else State.CANCELLED)
    if waking.has_living(session, study.id):
        # What had failed was tried again while this was worked out.
        step = Rest()
    match step:
        case Judged():
            return _conclude(session, lease, study, step)
        case NextStage():
            _submit(session, study, step)
            waits = Entry("waits", f"For {len(step.members)} experiments of {step.stage}.", {"stage": step.stage})
        case ToEvaluate():
            count = _evaluate(session, study, step)
            waits = Entry("waits", f"For {count} evaluations.")
        case Rest():
            waits = Entry("waits", "Something that it waits for has not ended yet.")
    moved = leases.rest(session, lease, waits)
    _set(session, study.id, waiting=True)
    # What ended while this was stored has found it at work.
    waking.wake(session, [study.id])
    return moved


def _found(database: Database, study: Study, between: Callable[[], None]) -> dict[str, Any]:
    asked = asked_of(study.asked, study.extensions)
    rows = measuring.rows(database, study.id, asked.design, between)
    with database.read() as session:
        judged = None if not study.judged else finding.verdict(session, study.id)
        done = (_MEMBER.study_id == study.id, _MEMBER.evaluated.is_(True))
        evaluated = set(session.execute(select(_MEMBER.job_id).where(*done)).scalars())
    unmeasured = [row["experiment"] for row in rows if row["missing"] is None and row["experiment"] not in evaluated]
    return {
        "asked": study.asked,
        "extensions": study.extensions,
        "fingerprint": study.fingerprint,
        "changed": fingerprint_of(asked.design) != study.fingerprint,
        "rows": rows,
        "done": list(dict.fromkeys(row["stage"] for row in rows)),
        "taken": {} if judged is None else judged.taken,
        "to_evaluate": unmeasured if asked.design.evaluations else [],
    }


def _submit(session: Session, study: Study, step: NextStage) -> None:
    there = select(_MEMBER.job_id).where(_MEMBER.study_id == study.id, _MEMBER.stage == step.stage).limit(1)
    if session.execute(there).first() is not None:
        return
    who = Submitter(study.owner, study.queue, study.key_id)
    ids = experiments.submit_ids(session, step.submissions, who, step.limits)
    begin = _next_place(session, study.id)
    rows = [
        {
            "job_id": job_id,
            "study_id": study.id,
            "place": begin + number,
            "stage": step.stage,
            "arm": member.arm,
            "setting": dict(member.setting),
            "seed": member.seed,
            "of_experiment": None,
            "evaluation": None,
            "evaluated": False,
        }
        for number, (member, job_id) in enumerate(zip(step.members, ids, strict=True))
    ]
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        session.execute(insert(core(StudyJob)), rows[start : start + ROWS_A_STATEMENT])
    _set(session, study.id, stage=step.stage)


def _evaluate(session: Session, study: Study, step: ToEvaluate) -> int:
    """How many were submitted: an experiment without a checkpoint has none, and its numbers are missing."""
    who = Submitter(study.owner, study.queue, study.key_id)
    these = (_MEMBER.study_id == study.id, one_of(_MEMBER.job_id, step.experiments), _MEMBER.evaluated.is_(False))
    marked = update(core(StudyJob)).where(*these).values(evaluated=True).returning(_MEMBER.job_id)
    fresh = set(session.execute(marked).scalars())
    place, count = _next_place(session, study.id), 0
    for (experiment_id, name), submission in step.wanted.items():
        if experiment_id not in fresh:
            continue
        try:
            job_id = evaluations.submit(session, submission, who, step.limits)
        except CheckpointNotFound:
            continue
        of = core(StudyJob).c
        mine = select(of.arm, of.setting, of.seed, of.stage).where(of.job_id == experiment_id)
        arm, setting, seed, stage = session.execute(mine).one()
        row = {"job_id": job_id, "study_id": study.id, "place": place + count, "stage": stage, "arm": arm}
        row |= {"setting": setting, "seed": seed, "of_experiment": experiment_id, "evaluation": name}
        row |= {"evaluated": False}
        session.execute(insert(core(StudyJob)).values(row))
        count += 1
    return count


def _conclude(session: Session, lease: Lease, study: Study, judged: Judged) -> Moved:
    said = {each["name"]: _outcome(each) for each in judged.verdicts}
    moved = leases.succeed(session, lease, Entry("judged", _in_words(said), {"outcomes": said}))
    row = {
        "study_id": study.id,
        "number": study.judged + 1,
        "judged_at": clock(),
        "verdicts": finite_json(list(judged.verdicts)),
        "taken": {name: list(looks) for name, looks in judged.taken.items()},
        "runs": finite_json(list(judged.runs)),
        "facts": finite_json(dict(judged.facts)),
    }
    session.execute(insert(core(StudyVerdict)).values(row))
    _set(session, study.id, judged=study.judged + 1, outcomes=said, waiting=False)
    return moved


def _outcome(verdict: Mapping[str, Any]) -> str:
    label = verdict.get("label")
    return f"{verdict['outcome']} ({label})" if label else str(verdict["outcome"])


def _in_words(said: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {outcome}" for name, outcome in said.items())[:2000]


def _next_place(session: Session, study_id: str) -> int:
    last = session.execute(select(func.max(_MEMBER.place)).where(_MEMBER.study_id == study_id)).scalar_one_or_none()
    return 0 if last is None else last + 1


def _set(session: Session, study_id: str, **values: object) -> None:
    session.execute(update(core(Study)).where(_STUDY.id == study_id).values(**values))
