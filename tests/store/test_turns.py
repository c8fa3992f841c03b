"""Claims are fair between owners, whatever each of them does."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import experiments
from store.jobs import wishes
from store.jobs.wishes import By


def submit(lab: Any, owner: str, count: int) -> None:
    with lab.database.write() as session:
        experiments.submit_many(session, [lab.submission()] * count, owner=owner, device="cpu")


def claims(lab: Any, count: int) -> str:
    """The owners of the next jobs, a letter each."""
    return "".join(lab.get(lab.claim().lease.job_id).owner for _ in range(count))


def test_an_owner_with_few_jobs_waits_for_no_more_than_its_turn(lab: Any) -> None:
    submit(lab, "A", 50)
    assert claims(lab, 3) == "AAA"
    submit(lab, "B", 3)
    assert claims(lab, 8) == "BABABAAA"


def test_three_owners_take_turns(lab: Any) -> None:
    submit(lab, "A", 9)
    submit(lab, "B", 4)
    submit(lab, "C", 2)
    assert claims(lab, 15) == "ABCABCABABAAAAA"


def test_one_who_comes_one_by_one_does_not_come_first(lab: Any) -> None:
    submit(lab, "A", 6)
    submit(lab, "C", 6)
    taken = claims(lab, 2)
    for _ in range(6):
        submit(lab, "B", 1)
        taken += claims(lab, 2)
    assert max(Counter(taken).values()) - min(Counter(taken).values()) <= 1


def test_nobody_gains_by_having_waited_or_paused(lab: Any) -> None:
    submit(lab, "B", 1)
    paused = [lab.submit(owner="A") for _ in range(5)]
    for one in paused:
        lab.ask(one, "pause")
    assert claims(lab, 1) == "B"
    submit(lab, "B", 12)
    assert claims(lab, 4) == "BBBB"
    submit(lab, "A", 3)
    with lab.database.write() as session:
        for one in paused:
            wishes.resume(session, one, By(None))
    taken = claims(lab, 16)
    ahead = [taken[:turn].count("A") - taken[:turn].count("B") for turn in range(17)]
    # What the paper promises of two owners who both wait.
    assert max(map(abs, ahead)) <= 2


def test_what_cannot_be_claimed_lets_nobody_else_come_first(lab: Any) -> None:
    submit(lab, "A", 20)
    resting = lab.claim().lease.job_id
    lab.change(resting, state="queued", pinned_device_model="Model B")
    assert claims(lab, 4) == "AAAA"
    taken = ""
    for _ in range(6):
        submit(lab, "B", 1)
        taken += claims(lab, 2)
    assert Counter(taken) == {"A": 6, "B": 6}


def test_a_job_that_was_handed_back_is_the_next_of_its_owner(lab: Any) -> None:
    submit(lab, "A", 3)
    first = lab.claim().lease
    submit(lab, "B", 3)
    lab.release(first)
    assert lab.claim().lease.job_id == first.job_id


def test_priority_comes_before_turns(lab: Any) -> None:
    submit(lab, "A", 2)
    urgent = [lab.submit(owner="B") for _ in range(3)]
    for one in urgent:
        lab.change(one, priority=5)
    assert claims(lab, 5) == "BBBAA"


class Fair:
    """Start-time fair queueing as its paper has it: a start tag a job, and the time of the last service."""

    def __init__(self) -> None:
        self.now = 0
        self.tags: dict[str, tuple[int, float, str]] = {}
        self.owners: dict[str, str] = {}
        self.finished: dict[str, dict[str, int]] = {}

    def submit(self, job: str, owner: str, at: float) -> None:
        mine = self.finished.setdefault(owner, {})
        # Not further back than a turn before all that wait: between may be what was cancelled.
        behind = min((tag for tag, *_ in self.tags.values()), default=0) - 1
        start = max([self.now, behind, *mine.values()])
        self.tags[job], self.owners[job] = (start, at, job), owner
        mine[job] = start + 1

    def claim(self) -> str | None:
        if not self.tags:
            return None
        job = min(self.tags, key=lambda one: self.tags[one])
        self.now = max(self.now, self.tags.pop(job)[0])
        return job

    def cancel(self, job: str) -> None:
        if self.tags.pop(job, None) is not None:
            del self.finished[self.owners[job]][job]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["A", "B", "C", "claim", "claim", "cancel"]), max_size=40))
def test_claims_are_those_of_start_time_fair_queueing(lab: Any, acts: list[str]) -> None:
    while lab.claim() is not None:
        pass
    with lab.database.write() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs")
    fair, made = Fair(), list[str]()
    for act in acts:
        if act == "claim":
            claim = lab.claim()
            assert (claim and claim.lease.job_id) == fair.claim(), acts
        elif act == "cancel":
            if made:
                lab.ask(made[-1], "cancel")
                fair.cancel(made[-1])
        else:
            made.append(lab.submit(owner=act))
            fair.submit(made[-1], act, lab.get(made[-1]).created_at)
