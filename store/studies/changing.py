"""What owners ask of a study, and with it of all its jobs: to end, rest, go on, run again, grow, be gone.

Invariant: it holds for the study and all of its jobs in one transaction, which has the owner's turn from the beginning:
so has whoever submits the next experiments, and none comes in between. Jobs are locked in the order of their ids, the
study behind all of its own.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bncore.spec.study import ARTICLE, StudyExtension
from bncore.studies.asking import asked_of
from store import experiments, files, idempotency, owners, queueing
from store.columns import core, one_of
from store.errors import IllegalTransition
from store.idempotency import Scope
from store.jobs import wishes
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import TERMINAL, State, actions
from store.jobs.wishes import By, Wish
from store.queueing import ROWS_A_STATEMENT, Limits
from store.studies import finding, waking
from store.studies.submitting import request_fingerprint
from store.study_errors import InStudy, NotExtensible
from store.tables import Job, Study, StudyJob

_JOB, _STUDY, _MEMBER = core(Job).c, core(Study).c, core(StudyJob).c
_LIVING = frozenset(State) - TERMINAL
_MORE_SEEDS = "More seeds were asked for."
_RETRIED = "What had failed of it runs again."


def cancel(session: Session, study: Study, by: By) -> int:
    """End all of it that has not ended; how many jobs were ended or asked to."""
    return _ask(session, study, "cancel", _LIVING, by, held=False)


def pause(session: Session, study: Study, by: By) -> int:
    """Let all of it rest that waits or runs; how many jobs do, or were asked to."""
    if study.state in TERMINAL:
        raise IllegalTransition(study.state, actions(study.state))
    return _ask(session, study, "pause", {State.QUEUED, State.RUNNING}, by, held=True)


def resume(session: Session, study: Study, by: By, limits: Limits) -> int:
    """Queue all of it again that rests, and take back pauses that have not come yet; how many. Raises
    `QuotaExceeded`."""
    owners.take_turn(session, study.owner)
    changed = sum(resume(session, part, by, limits) for part in finding.parts(session, study.id))
    rest = _jobs_of(session, study, {State.PAUSED, State.RUNNING})
    changed += queueing.resume_all(session, study.owner, rest, by, limits)
    _set(session, study.id, held=False)
    if not study.waiting:
        changed += wishes.resume_all(session, [study.id], by)
    waking.wake(session, [study.id])
    return changed


def retry(session: Session, study: Study, by: By, limits: Limits, *, cancelled: bool = False) -> int:
    """Queue what failed of it again, and what was cancelled where that is asked or the study itself was; how many.

    It is judged anew when they have ended: with the same pairs that is no other look. Raises `QuotaExceeded`.
    """
    owners.take_turn(session, study.owner)
    again = cancelled or study.state is State.CANCELLED
    parts = finding.parts(session, study.id)
    changed = sum(retry(session, part, by, limits, cancelled=again) for part in parts)
    states = {State.FAILED, State.CANCELLED} if again else {State.FAILED}
    changed += queueing.retry_all(session, study.owner, _jobs_of(session, study, states), by, limits)
    if study.state in (State.FAILED, State.CANCELLED):
        _set(session, study.id, waiting=False, held=False)
        changed += wishes.retry_all(session, [study.id], by)
        _judge_whole_again(session, study, by, _RETRIED)
    elif study.state is State.SUCCEEDED and (changed or _has_news(session, study)):
        _judge_again(session, study, by, _RETRIED)
    return changed


def extend(session: Session, study: Study, seeds: int, by: By, limits: Limits) -> None:
    """Have it judged with more seeds, which counts as a look at what is there by then.

    Raises `NotExtensible` before it was judged, and beyond what it may have; `QuotaExceeded`.
    """
    owners.take_turn(session, study.owner)
    session.refresh(study)
    if study.claim == ARTICLE:
        raise NotExtensible("An article has no seeds of its own: extend one of its parts, and it is judged again.")
    if study.state is not State.SUCCEEDED:
        raise NotExtensible(f"It is {study.standing.value}: a study is extended once it was judged.")
    left = study.most - study.seeds
    if seeds > left:
        fixed = f"It has {study.seeds} seeds of at most {study.most}, which was fixed before it was first judged"
        raise NotExtensible(f"{fixed}: {f'ask for up to {left} more' if left else 'it can have no more'}.")
    if limits.queued_jobs is not None and seeds > limits.queued_jobs:
        raise NotExtensible("Your queue has no room for so many.")
    design = asked_of(study.asked, study.extensions).design.extended(seeds)
    _set(session, study.id, extensions=list(design.extensions), seeds=study.seeds + seeds)
    _judge_again(session, study, by, _MORE_SEEDS)


def extend_once(
    session: Session, scope: Scope | None, study: Study, wanted: StudyExtension, by: By, limits: Limits
) -> bool:
    """The same, unless this very request did so before; whether it had. Raises `IdempotencyConflict`."""
    if scope is not None and idempotency.reserve(session, scope, request_fingerprint(wanted)) is not None:
        return True
    extend(session, study, wanted.seeds, by, limits)
    if scope is not None:
        idempotency.bind(session, scope, study.id)
    return False


def delete(session: Session, study: Study, by: By) -> None:
    """Hide it with all of its jobs, for good.

    Raises `IllegalTransition` while any of it has not ended, `InStudy` for a part of an article.
    """
    if study.part_of:
        raise InStudy(study.part_of)
    owners.take_turn(session, study.owner)
    _delete(session, study, by)


def _delete(session: Session, study: Study, by: By) -> None:
    if study.state not in TERMINAL or _jobs_of(session, study, _LIVING):
        state = State.RUNNING if study.state in TERMINAL else study.standing
        raise IllegalTransition(state, actions(State.RUNNING), wishes.CANCEL_FIRST)
    for part in finding.parts(session, study.id):
        _delete(session, part, by)
    for some in _batches(_jobs_of(session, study, TERMINAL)):
        experiments.delete_these(session, some, by)
    wishes.delete(session, study.id, by)
    files.drop_of_jobs(session, [study.id])


def _judge_again(session: Session, study: Study, by: By, message: str) -> None:
    """It, and the article that it is a part of."""
    _set(session, study.id, waiting=False, held=False)
    wishes.reopen(session, study.id, by, message)
    _judge_whole_again(session, study, by, message)


def _judge_whole_again(session: Session, study: Study, by: By, message: str) -> None:
    """The article that it is a part of, once it has been judged."""
    if study.part_of and finding.get(session, study.part_of).state is State.SUCCEEDED:
        _set(session, study.part_of, waiting=False, held=False)
        wishes.reopen(session, study.part_of, by, message)


def _has_news(session: Session, study: Study) -> bool:
    """Whether what was missing when it was judged is there by now, or on its way: tried again by itself."""
    missing = finding.verdict(session, study.id).facts.get("missing", ())
    if study.claim == ARTICLE or not missing:
        return False
    there = select(_JOB.id).where(one_of(_JOB.id, missing), still_in_state(State.SUCCEEDED, *_LIVING))
    return session.execute(there.limit(1)).first() is not None


def _ask(session: Session, study: Study, wish: Wish, states: Collection[State], by: By, *, held: bool) -> int:
    owners.take_turn(session, study.owner)
    changed = 0
    for part in finding.parts(session, study.id):
        if part.state not in TERMINAL:
            changed += _ask(session, part, wish, states, by, held=held)
        else:
            # It was judged, and its owner has tried an experiment of it again since.
            changed += _ask_jobs(session, part, wish, states, by)
    changed += _ask_jobs(session, study, wish, states, by)
    changed += wishes.ask_all(session, [study.id], wish, by)
    # One that has ended waits for nothing: whoever looks for those that do would find it for ever.
    _set(session, study.id, held=held, **({} if held else {"waiting": False}))
    return changed


def _ask_jobs(session: Session, study: Study, wish: Wish, states: Collection[State], by: By) -> int:
    """Of its experiments and their evaluations."""
    mine = _jobs_of(session, study, states)
    return _in_batches(mine, lambda some: wishes.ask_all(session, some, wish, by))


def _jobs_of(session: Session, study: Study, states: Collection[State]) -> list[str]:
    """Its experiments and their evaluations, locked until the transaction ends."""
    mine = select(_MEMBER.job_id).where(_MEMBER.study_id == study.id, _MEMBER.arm.is_not(None))
    ids = session.execute(mine).scalars().all()
    if not ids:
        return []
    statement = select(_JOB.id).where(one_of(_JOB.id, ids), still_in_state(*states), *owned_by(None))
    locked = statement.order_by(_JOB.id).with_for_update(key_share=True)
    return list(session.execute(locked).scalars())


def _set(session: Session, study_id: str, **values: object) -> None:
    session.execute(update(core(Study)).where(_STUDY.id == study_id).values(**values))


def _in_batches(ids: Sequence[str], change: Callable[[Sequence[str]], int]) -> int:
    return sum(change(some) for some in _batches(ids))


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_A_STATEMENT):
        yield ids[start : start + ROWS_A_STATEMENT]
