"""Claims, renewals and the ends of an attempt."""

from typing import Any

import pytest

from store import work
from store.errors import StaleLease
from store.jobs import leases
from store.jobs.leases import Go, Lease, Stop
from store.jobs.states import State
from store.work import Cancelled, Failed, Paused, Succeeded


def renew(lab: Any, lease: Lease) -> Go | Stop:
    with lab.database.write() as session:
        return leases.renew(session, lease)


def restart(lab: Any, lease: Lease) -> Any:
    return lab.finish(lease, Failed("trainer_killed", "Killed by signal 9."))


def bells(lab: Any) -> int:
    return len(lab.everything()["bells"])


def test_a_claim_takes_the_oldest_of_the_highest_priority(lab: Any) -> None:
    first, second, urgent = lab.submit(), lab.submit(), lab.submit()
    lab.change(urgent, priority=5)
    assert [lab.claim().lease.job_id for _ in range(3)] == [urgent, first, second]
    assert lab.claim() is None


def test_a_claim_takes_only_from_its_own_queue(lab: Any) -> None:
    lab.submit(device="cuda")
    assert lab.claim() is None
    assert lab.claim(device="cuda") is not None


def test_a_claim_takes_only_queued_experiments(lab: Any) -> None:
    experiment_id = lab.submit()
    for state in State:
        lab.change(experiment_id, state=state)
        assert (lab.claim() is not None) == (state is State.QUEUED)


def test_a_claim_gives_the_complete_spec_and_marks_the_row(lab: Any) -> None:
    experiment_id = lab.submit(name="mine")
    claim = lab.claim()
    row = lab.get(experiment_id)
    assert claim.spec == lab.spec(name="mine").model_dump(mode="json")
    assert (claim.restore, claim.restore_step, claim.not_bit_exact) == (None, 0, None)
    assert (row.state, row.attempt, row.process_id, row.phase) == (State.RUNNING, 1, "prc_1", "restoring")
    assert (row.pinned_device_kind, row.pinned_device_model, row.pinned_torch_version) == ("cpu", "Model A", "2.13.0")
    assert row.lease_expires_at == pytest.approx(row.claimed_at + 60, abs=1)


def test_a_released_experiment_waits_for_the_device_model_it_began_on(lab: Any) -> None:
    lease = lab.running()
    row = lab.release(lease)
    assert (row.state, row.waiting_for, row.restarts) == (State.QUEUED, "worker with Model A", 0)
    assert lab.claim(device_model="Model B") is None
    assert lab.claim().lease.attempt == 2


def test_another_torch_version_resumes_with_a_warning(lab: Any) -> None:
    lease = lab.running()
    lab.checkpoint(lease, "last", 10)
    lab.release(lease)
    claim = lab.claim(torch_version="2.14.0")
    assert claim.not_bit_exact == "Began with torch 2.13.0, resumes with torch 2.14.0."
    assert any("not_bit_exact" in row for row in lab.everything()["job_events"])


def test_another_torch_version_that_begins_again_is_as_good_as_new(lab: Any) -> None:
    lab.release(lab.running())
    claim = lab.claim(torch_version="2.14.0")
    assert claim.not_bit_exact is None
    assert lab.get(claim.lease.job_id).pinned_torch_version == "2.14.0"


def test_renewing_prolongs_the_lease(lab: Any) -> None:
    lease = lab.running(lease_seconds=100)
    before = lab.get(lease.job_id).lease_expires_at
    lab.change(lease.job_id, lease_expires_at=before - 90)
    assert renew(lab, lease) == Go()
    assert before <= lab.get(lease.job_id).lease_expires_at < before + 90


def test_an_expired_lease_that_nobody_reaped_can_be_renewed(lab: Any) -> None:
    lease = lab.running()
    lab.change(lease.job_id, lease_expires_at=0.0)
    assert renew(lab, lease) == Go()


@pytest.mark.parametrize("wrong", [{"token": "x"}, {"attempt": 2}, {"job_id": "exp_x"}])
def test_a_wrong_lease_cannot_be_renewed(lab: Any, wrong: dict[str, Any]) -> None:
    lease = lab.running()
    with pytest.raises(StaleLease):
        renew(lab, Lease(**{**vars(lease), **wrong}))


@pytest.mark.parametrize("desired", ["cancel", "pause", "kill"])
def test_renewing_answers_what_the_owner_asked_for(lab: Any, desired: Any) -> None:
    lease = lab.running()
    lab.change(lease.job_id, desired=desired)
    assert renew(lab, lease) == Stop(desired)


def test_the_deadline_counts_from_the_first_claim_without_pauses(lab: Any) -> None:
    lab.submit(deadline_seconds=100.0)
    claim = lab.claim()
    assert claim.seconds_left == pytest.approx(100, abs=9)
    begun = lab.get(claim.lease.job_id).first_claimed_at
    lab.change(claim.lease.job_id, first_claimed_at=begun - 150, paused_seconds=60.0)
    lab.release(claim.lease)
    claim = lab.claim()
    assert claim.seconds_left == pytest.approx(10, abs=9)
    lab.change(claim.lease.job_id, paused_seconds=40.0)
    lab.release(claim.lease)
    assert lab.claim().seconds_left == pytest.approx(-10, abs=9)


def test_a_run_without_a_deadline_has_no_time_to_count(lab: Any) -> None:
    lab.submit()
    assert lab.claim().seconds_left is None


def test_the_first_claim_is_remembered(lab: Any) -> None:
    lease = lab.running()
    # Claims of one millisecond could not be told apart.
    begun = lab.get(lease.job_id).first_claimed_at - 10
    lab.change(lease.job_id, first_claimed_at=begun, claimed_at=begun)
    lab.release(lease)
    lab.claim()
    row = lab.get(lease.job_id)
    assert row.first_claimed_at == begun < row.claimed_at


def test_a_release_rings_the_queue_and_ends_the_lease(lab: Any) -> None:
    lease = lab.running()
    assert bells(lab) == 1
    row = lab.release(lease)
    assert (row.lease_token, row.lease_expires_at, row.process_id, row.phase) == (None, None, None, None)
    assert bells(lab) == 2
    with pytest.raises(StaleLease):
        lab.release(lease)


def test_a_restart_counts_until_there_were_enough(lab: Any) -> None:
    lease = lab.running(max_restarts=1)
    row = restart(lab, lease)
    assert (row.state, row.restarts, row.failure_code) == (State.QUEUED, 1, None)
    assert bells(lab) == 2
    row = restart(lab, lab.claim().lease)
    assert (row.state, row.restarts, row.failure_code) == (State.FAILED, 1, "trainer_killed")
    assert row.failure_message == "Killed by signal 9."
    assert bells(lab) == 2


@pytest.mark.parametrize(("desired", "state"), [("cancel", State.CANCELLED), ("pause", State.PAUSED)])
@pytest.mark.parametrize("end", ["release", "restart"])
def test_what_was_asked_comes_before_the_queue(lab: Any, desired: str, state: State, end: str) -> None:
    lease = lab.running()
    lab.change(lease.job_id, desired=desired)
    row = lab.release(lease) if end == "release" else restart(lab, lease)
    assert (row.state, row.restarts, row.desired) == (state, 0, None)
    assert bells(lab) == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded("budget", {"test_accuracy": 0.9}), State.SUCCEEDED),
        (Failed("trainer_error", "It broke."), State.FAILED),
        (Cancelled(), State.CANCELLED),
        (Paused(), State.PAUSED),
    ],
)
def test_an_outcome_ends_the_attempt(lab: Any, outcome: work.Outcome, state: State) -> None:
    lease = lab.running()
    row = lab.finish(lease, outcome)
    assert (row.state, row.lease_token, row.process_id) == (state, None, None)
    assert (row.finished_at is not None) == (state is not State.PAUSED)
    with pytest.raises(StaleLease):
        lab.finish(lease, outcome)


def test_success_wins_over_a_wish_to_cancel(lab: Any) -> None:
    lease = lab.running()
    assert lab.ask(lease.job_id, "cancel").state is State.RUNNING
    row = lab.finish(lease, Succeeded("target_reached", {"test_loss": float("nan"), "steps": 3}))
    assert (row.state, row.stop_reason, row.desired) == (State.SUCCEEDED, "target_reached", None)
    assert row.summary == {"test_loss": "NaN", "steps": 3}


def test_a_failure_of_any_text_can_be_stored(lab: Any) -> None:
    row = lab.finish(lab.running(), Failed("trainer_error", "a\x00b\ud800" + "c" * 100_000))
    assert row.failure_message is not None
    assert row.failure_message.startswith("a\N{REPLACEMENT CHARACTER}b?ccc")
    assert len(row.failure_message) <= 10_000


def test_every_end_is_a_visible_change(lab: Any) -> None:
    lease = lab.running()
    seen = lab.get(lease.job_id).version
    assert lab.release(lease).version > seen
