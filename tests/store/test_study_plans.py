"""What is done of studies costs what it finds, however many there are: every statement enters by an index."""

from collections.abc import Callable, Iterator
from typing import Any

from bench.rows import job_id
from store import experiments, studies
from store.experiments import Filters
from store.jobs.wishes import By
from store.queueing import Limits, Submitter
from store.studies import measuring, waking
from tests.store.plans import assert_planned, faults_of_calls, in_session
from tests.store.test_plans import ROWS
from tests.store.test_studies import submission

ENDED, WAITING, WHOLE = job_id(50, "stu"), job_id(207, "stu"), job_id(62, "stu")
WHO, OWNER, LIMITS = Submitter("own_0", "cpu"), By("own_0"), Limits(10_000, 10**12)


def test_what_is_done_of_studies_reads_and_sorts_no_table(lab: Any) -> None:
    assert_planned(lab, ROWS, lambda: faults_of_calls(lab, (*looks(lab), *writes(lab))))


def looks(lab: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    def reading(call: Callable[..., object]) -> Callable[[], object]:
        return lambda: in_session(lab.database.read(), call)

    for name, owner in (("an owner's", "own_2"), ("anybody's", None)):
        for part_of in ("", WHOLE):
            cursor: list[str | None] = [None]

            def page(
                session: Any, owner: Any = owner, part_of: str = part_of, cursor: list[str | None] = cursor
            ) -> None:
                cursor[0] = studies.page(session, owner, part_of, cursor[0]).next_cursor

            yield f"list {name} of {part_of}", reading(page)
            yield f"list {name} of {part_of}, further", reading(page)
    yield "get", reading(lambda session: studies.get(session, ENDED, owner="own_0"))
    yield "standings", reading(lambda session: studies.standings(session, [ENDED, WAITING, WHOLE]))
    yield "members", reading(lambda session: studies.members(session, ENDED))
    yield "parts", reading(lambda session: studies.parts(session, WHOLE))
    yield "verdict", reading(lambda session: studies.verdict(session, ENDED))
    yield "one verdict", reading(lambda session: studies.verdict(session, ENDED, 1))
    yield "due", reading(waking.due)
    yield "of a job", reading(lambda session: waking.of_job(session, job_id(1009)))
    yield "rows", lambda: measuring.rows(lab.database, ENDED, submission().asked.design, lambda: None)
    of_none = Filters(owner="own_3", of_no_study=True)
    yield "experiments of none", reading(lambda session: experiments.ids(session, of_none, 100))


def writes(lab: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """A study from its first row to its last."""

    def writing(call: Callable[..., object]) -> Callable[[], object]:
        return lambda: in_session(lab.database.write(), call)

    made: list[str] = []
    yield "submit", writing(lambda session: made.append(studies.submit(session, submission(), WHO, LIMITS).id))

    def asked(call: Callable[..., object], *others: object) -> Callable[[], object]:
        return writing(lambda session: call(session, studies.get(session, made[0]), OWNER, *others))

    yield "pause", asked(studies.pause)
    yield "resume", asked(studies.resume, LIMITS)
    yield "wake", writing(lambda session: studies.wake(session, [WAITING]))
    yield "cancel", asked(studies.cancel)
    yield "retry", asked(studies.retry, LIMITS)
    yield "cancel again", asked(studies.cancel)
    yield "delete", asked(studies.delete)
