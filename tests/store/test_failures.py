"""What follows a failure: its code says, and nothing else."""

from typing import Any

import pytest

from store import work
from store.jobs import eventlog
from store.jobs.failures import CODES, WAIT_SECONDS, Remedy
from store.jobs.states import State
from store.work import Failed


def codes(remedy: Remedy) -> list[str]:
    return sorted(code for code, known in CODES.items() if known.remedy is remedy)


def last_line(lab: Any, experiment_id: str) -> tuple[str, str, dict[str, Any]]:
    with lab.database.read() as session:
        line = eventlog.page(session, experiment_id)[-1]
        return line.kind, line.message, line.data


def bells(lab: Any) -> int:
    return len(lab.everything()["bells"])


@pytest.mark.parametrize("code", [*codes(Remedy.FINAL), "nobody_knows_it"])
def test_what_another_try_would_repeat_is_the_end(lab: Any, code: str) -> None:
    row = lab.finish(lab.running(), Failed(code, "Because."))
    assert (row.state, row.restarts, row.failure_code, row.failure_message) == (State.FAILED, 0, code, "Because.")
    assert last_line(lab, row.id) == ("failed", "Because.", {"code": code, "message": "Because."})


@pytest.mark.parametrize("code", codes(Remedy.RESTART))
def test_what_came_from_outside_is_a_counted_restart(lab: Any, code: str) -> None:
    lease = lab.running(max_restarts=2)
    said = []
    for restart in (1, 2):
        row = lab.finish(lease, Failed(code, "Because."))
        assert (row.state, row.restarts, row.failure_code) == (State.QUEUED, restart, None)
        said.append(last_line(lab, row.id)[1])
        lease = lab.claim().lease
    assert said == ["Restart 1 of 2: Because.", "Restart 2 of 2: Because."]
    row = lab.finish(lease, Failed(code, "Because."))
    assert (row.state, row.restarts, row.failure_code) == (State.FAILED, 2, code)


@pytest.mark.parametrize("code", codes(Remedy.WAIT))
def test_the_fault_of_a_machine_waits_and_is_not_counted(lab: Any, code: str) -> None:
    lease = lab.running(max_restarts=0)
    for attempt in (2, 3):
        before = bells(lab)
        row = lab.finish(lease, Failed(code, "No room."))
        assert (row.state, row.restarts, row.failure_code) == (State.QUEUED, 0, None)
        assert row.not_before == pytest.approx(row.queued_at + WAIT_SECONDS, abs=WAIT_SECONDS / 3)
        assert last_line(lab, row.id)[0] == "waits"
        assert bells(lab) == before + 1
        assert lab.claim() is None
        lab.jump(WAIT_SECONDS + 1)
        lease = lab.claim().lease
        assert lease.attempt == attempt
        assert lab.get(row.id).not_before is None


def test_a_rest_does_not_outlast_a_clock_that_is_set_back(lab: Any) -> None:
    lab.finish(lab.running(), Failed("disk_full", "No room."))
    lab.jump(-3600)
    assert lab.claim() is not None


@pytest.mark.parametrize("code", [*codes(Remedy.RESTART), *codes(Remedy.WAIT)])
@pytest.mark.parametrize(("desired", "state"), [("pause", State.PAUSED), ("cancel", State.CANCELLED)])
def test_what_was_asked_comes_before_another_try(lab: Any, code: str, desired: Any, state: State) -> None:
    lease = lab.running()
    lab.ask(lease.job_id, desired)
    row = lab.finish(lease, Failed(code, "Because."))
    assert (row.state, row.restarts, row.desired) == (state, 0, None)


def test_a_final_failure_comes_before_what_was_asked(lab: Any) -> None:
    lease = lab.running()
    lab.ask(lease.job_id, "pause")
    row = lab.finish(lease, Failed("trainer_error", "Broke."))
    assert (row.state, row.desired) == (State.FAILED, None)


def test_a_claim_whose_answer_was_lost_is_found_by_its_token(lab: Any) -> None:
    lab.submit()
    with lab.database.write() as session:
        assert work.taken(session, lab.worker, "token") is None
    with lab.database.write() as session:
        lost = work.take(session, lab.worker, work.Terms(60.0), "token")
    with lab.database.write() as session:
        found = work.taken(session, lab.worker, "token")
        assert found is not None
        assert lost is not None
        assert (found.lease, found.spec, found.restore) == (lost.lease, lost.spec, lost.restore)
    lab.release(found.lease)
    with lab.database.write() as session:
        assert work.taken(session, lab.worker, "token") is None
