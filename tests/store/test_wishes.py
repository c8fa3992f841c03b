"""What owners ask of jobs, in every state, and who asked."""

from typing import Any

import pytest

from store import experiments, work
from store.errors import ExperimentNotFound, IllegalTransition, VersionMismatch
from store.experiments import Filters
from store.jobs import eventlog, leases, wishes
from store.jobs.leases import Lease, Stop
from store.jobs.states import State
from store.jobs.wishes import By

MINE = By("own_1", "key_1")


def in_state(lab: Any, state: State, **parts: Any) -> tuple[str, Lease | None]:
    """A job that came into this state as jobs do, and its lease while it runs."""
    if state is State.QUEUED:
        return lab.submit(**parts), None
    lease = lab.running(**parts)
    ends: dict[State, work.Outcome] = {
        State.PAUSED: work.Paused(),
        State.SUCCEEDED: work.Succeeded("budget", {}),
        State.FAILED: work.Failed("trainer_error", "Broke."),
        State.CANCELLED: work.Cancelled(),
    }
    if state is not State.RUNNING:
        lab.finish(lease, ends[state])
    return lease.job_id, lease


def act(lab: Any, what: Any, experiment_id: str, by: By = MINE) -> Any:
    with lab.database.write() as session:
        what(session, experiment_id, by)
    return lab.get(experiment_id)


def lines(lab: Any, experiment_id: str) -> list[tuple[str, dict[str, Any]]]:
    with lab.database.read() as session:
        return [(line.kind, line.data) for line in eventlog.page(session, experiment_id)]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("wish", ["cancel", "pause", "kill"])
def test_a_wish_is_done_at_once_or_told_the_worker_or_too_late(lab: Any, wish: wishes.Wish, state: State) -> None:
    experiment_id, lease = in_state(lab, state)
    before = lab.get(experiment_id)
    done = State.PAUSED if wish == "pause" else State.CANCELLED
    if wish == "pause" and state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        with pytest.raises(IllegalTransition):
            lab.ask(experiment_id, wish, MINE)
        return
    row = lab.ask(experiment_id, wish, MINE)
    if state is State.RUNNING:
        assert (row.state, row.desired) == (State.RUNNING, wish)
        assert lines(lab, experiment_id)[-1] == (f"{wish}_requested", {"key_id": "key_1"})
        with lab.database.write() as session:
            assert leases.renew(session, lease) == Stop(wish)
    elif state in (State.QUEUED, State.PAUSED) and state is not done:
        assert (row.state, row.desired) == (done, None)
        assert lines(lab, experiment_id)[-1] == (done.value, {"key_id": "key_1"})
    else:
        assert row.version == before.version
    assert lab.ask(experiment_id, wish, MINE).version == row.version


def test_a_wish_can_be_made_stronger_and_not_weaker(lab: Any) -> None:
    lease = lab.running()
    asked = [lab.ask(lease.job_id, wish).desired for wish in ("pause", "cancel", "pause", "kill", "cancel", "pause")]
    assert asked == ["pause", "cancel", "cancel", "kill", "kill", "kill"]


def test_a_paused_job_waits_until_it_is_resumed_and_goes_on_where_it_was(lab: Any) -> None:
    lease = lab.running()
    checkpoint = lab.checkpoint(lease, "last", 7)
    lab.ask(lease.job_id, "pause")
    lab.finish(lease, work.Paused())
    assert lab.claim() is None
    row = act(lab, wishes.resume, lease.job_id)
    assert (row.state, row.paused_at, lines(lab, row.id)[-1]) == (State.QUEUED, None, ("resumed", {"key_id": "key_1"}))
    claim = lab.claim()
    assert (claim.restore, claim.restore_step, claim.lease.attempt) == (checkpoint, 7, 2)
    assert lab.get(lease.job_id).restarts == 0


def test_resuming_takes_a_wish_to_pause_back(lab: Any) -> None:
    lease = lab.running()
    lab.ask(lease.job_id, "pause")
    assert act(lab, wishes.resume, lease.job_id).desired is None
    lab.ask(lease.job_id, "cancel")
    assert act(lab, wishes.resume, lease.job_id).desired == "cancel"


@pytest.mark.parametrize("state", [State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_resuming_what_is_not_paused_changes_nothing(lab: Any, state: State) -> None:
    experiment_id, _ = in_state(lab, state)
    version = lab.get(experiment_id).version
    if state is State.QUEUED:
        assert act(lab, wishes.resume, experiment_id).version == version
    else:
        with pytest.raises(IllegalTransition):
            act(lab, wishes.resume, experiment_id)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_retry_goes_on_from_the_last_checkpoint_with_restarts_and_deadline_anew(lab: Any, state: State) -> None:
    lease = lab.running(max_restarts=1, deadline_seconds=100.0)
    lab.finish(lease, work.Failed("worker_lost", "Lost."))
    lease = lab.claim().lease
    lab.change(lease.job_id, first_claimed_at=lab.get(lease.job_id).first_claimed_at - 90)
    checkpoint = lab.checkpoint(lease, "last", 5)
    lab.finish(lease, work.Cancelled() if state is State.CANCELLED else work.Failed("worker_lost", "Lost."))
    assert lab.get(lease.job_id).state is state
    row = act(lab, wishes.retry, lease.job_id)
    assert (row.state, row.restarts, row.failure_code, row.finished_at) == (State.QUEUED, 0, None, None)
    claim = lab.claim()
    assert (claim.restore, claim.lease.attempt) == (checkpoint, 3)
    assert claim.seconds_left == pytest.approx(100, abs=40)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.PAUSED, State.SUCCEEDED])
def test_only_what_failed_or_was_cancelled_can_be_retried(lab: Any, state: State) -> None:
    experiment_id, _ = in_state(lab, state)
    with pytest.raises(IllegalTransition) as caught:
        act(lab, wishes.retry, experiment_id)
    assert caught.value.state is state


def test_a_pause_does_not_count_towards_the_deadline(lab: Any) -> None:
    lease = lab.running(deadline_seconds=100.0)
    lab.finish(lease, work.Paused())
    lab.jump(1000)
    act(lab, wishes.resume, lease.job_id)
    assert lab.claim().seconds_left == pytest.approx(100, abs=40)


def test_a_pause_before_the_first_claim_counts_for_nothing(lab: Any) -> None:
    experiment_id = lab.submit(deadline_seconds=100.0)
    lab.ask(experiment_id, "pause")
    lab.jump(1000)
    act(lab, wishes.resume, experiment_id)
    assert lab.claim().seconds_left == pytest.approx(100, abs=40)


@pytest.mark.parametrize("what", [wishes.resume, wishes.retry, wishes.delete, experiments.delete])
def test_a_wish_about_another_version_is_refused(lab: Any, what: Any) -> None:
    state = State.PAUSED if what is wishes.resume else State.FAILED
    experiment_id, _ = in_state(lab, state)
    version = lab.get(experiment_id).version
    with pytest.raises(VersionMismatch) as caught:
        act(lab, what, experiment_id, By("own_1", versions=frozenset({version - 1})))
    assert caught.value.version == version
    with lab.database.write() as session:
        what(session, experiment_id, By("own_1", versions=frozenset({version - 1, version})))


def test_cancelling_and_editing_ask_for_the_version_too(lab: Any) -> None:
    experiment_id = lab.submit()
    stale = By("own_1", versions=frozenset({99}))
    for call in (
        lambda session: wishes.ask(session, experiment_id, "cancel", stale),
        lambda session: experiments.edit(session, experiment_id, stale, {"name": "x"}),
    ):
        with lab.database.write() as session, pytest.raises(VersionMismatch):
            call(session)
    assert lab.get(experiment_id).state is State.QUEUED


def test_a_job_of_another_owner_is_not_there(lab: Any) -> None:
    experiment_id, _ = in_state(lab, State.FAILED)
    other = By("own_2")
    for call in (
        lambda session: wishes.ask(session, experiment_id, "cancel", other),
        lambda session: wishes.resume(session, experiment_id, other),
        lambda session: wishes.retry(session, experiment_id, other),
        lambda session: experiments.delete(session, experiment_id, other),
        lambda session: experiments.edit(session, experiment_id, other, {"name": "x"}),
        lambda session: experiments.get(session, experiment_id, owner="own_2"),
    ):
        with lab.database.write() as session, pytest.raises(ExperimentNotFound):
            call(session)
    with lab.database.read() as session:
        assert experiments.page(session, Filters(owner="own_2")).rows == []
        assert experiments.get(session, experiment_id, owner="own_1").state is State.FAILED


def test_names_and_tags_can_be_changed_and_are_found_by_the_new_ones(lab: Any) -> None:
    experiment_id = lab.submit(name="old", tags={"a": "1"})
    version = lab.get(experiment_id).version
    with lab.database.write() as session:
        experiments.edit(session, experiment_id, MINE, {"name": "new", "tags": {"b": "2"}})
    row = lab.get(experiment_id)
    assert (row.name, row.tags, row.spec["name"], row.spec["tags"]) == ("new", {"b": "2"}, "new", {"b": "2"})
    assert row.version > version
    with lab.database.read() as session:
        found = [
            len(experiments.page(session, Filters(owner="own_1", **filters)).rows)
            for filters in ({"name": "old"}, {"name": "new"}, {"tags": {"a": None}}, {"tags": {"b": "2"}})
        ]
    assert found == [0, 1, 0, 1]


def test_many_are_cancelled_and_deleted_by_what_they_have_in_common(lab: Any) -> None:
    lease = lab.running(name="x")
    waiting = [lab.submit(name="x") for _ in range(3)]
    other, foreign = lab.submit(name="y"), lab.submit(owner="own_2", name="x")
    ended = lab.submit(name="x")
    lab.ask(ended, "cancel")
    mine = Filters(owner="own_1", name="x")
    with lab.database.write() as session:
        # What has ended already takes nobody's place.
        assert experiments.cancel_all(session, mine, MINE, limit=2) == 2
        assert experiments.cancel_all(session, mine, MINE, limit=2) == 2
        assert experiments.cancel_all(session, mine, MINE, limit=100) == 0
    assert [lab.get(one).state for one in waiting] == [State.CANCELLED] * 3
    assert lab.get(lease.job_id).desired == "cancel"
    with lab.database.write() as session:
        assert experiments.delete_all(session, mine, MINE, limit=100) == 4
    assert {lab.get(one).state for one in (other, foreign)} == {State.QUEUED}
    with pytest.raises(ExperimentNotFound):
        lab.get(waiting[0])


def test_the_log_says_which_key_submitted_and_which_deleted(lab: Any) -> None:
    with lab.database.write() as session:
        made = experiments.submit(session, lab.submission(), owner="own_1", device="cpu", key_id="key_7").id
    assert (lines(lab, made), lab.get(made).key_id) == ([("submitted", {"key_id": "key_7"})], "key_7")
    lab.ask(made, "cancel", MINE)
    with lab.database.write() as session:
        experiments.delete(session, made, By("own_1", "key_8"))
    assert lines(lab, made)[-1] == ("deleted", {"key_id": "key_8"})
