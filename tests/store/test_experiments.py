"""Experiments as their owner sees them."""

import os
from typing import Any

import pytest
from sqlalchemy import text

from bncore.spec import plan
from store import cursors, experiments, idempotency, purging
from store.errors import CursorInvalid, ExperimentNotFound, IllegalTransition
from store.experiments import Filters
from store.jobs.states import State
from store.jobs.wishes import By
from store.work import Cancelled, Succeeded


def page(lab: Any, cursor: str | None = None, limit: int = 20, **filters: Any) -> experiments.Page:
    with lab.database.read() as session:
        return experiments.page(session, Filters(**filters), cursor, limit)


def ids(found: experiments.Page) -> list[str]:
    return [row.id for row in found.rows]


def cancel(lab: Any, experiment_id: str) -> Any:
    return lab.ask(experiment_id, "cancel")


def delete(lab: Any, experiment_id: str) -> None:
    with lab.database.write() as session:
        experiments.delete(session, experiment_id, By(None))


def purge(lab: Any) -> int:
    with lab.database.write() as session:
        return purging.purge(session)


def purge_all(lab: Any) -> list[int]:
    """How much each step deleted."""
    steps = []
    while deleted := purge(lab):
        steps.append(deleted)
    return steps


def test_a_submitted_experiment_is_queued_with_a_bell_and_a_line(lab: Any) -> None:
    experiment_id = lab.submit(name="mine", tags={"a": "b"}, max_restarts=7, deadline_seconds=5.0)
    row, spec = lab.get(experiment_id), lab.spec(name="mine", tags={"a": "b"}, max_restarts=7, deadline_seconds=5.0)
    assert experiment_id.startswith("exp_")
    assert len(experiment_id) == 36
    assert (row.state, row.name, row.tags, row.waiting_for) == (State.QUEUED, "mine", {"a": "b"}, "worker")
    assert (row.spec, row.fingerprint) == (spec.model_dump(mode="json"), spec.fingerprint())
    assert (row.total_steps, row.step, row.attempt) == (plan(spec).total_steps, 0, 0)
    assert (row.max_restarts, row.deadline_seconds) == (7, 5.0)
    everything = lab.everything()
    assert len(everything["bells"]) == len(everything["job_events"]) == 1


def test_pages_go_from_new_to_old_without_gap_or_repeat(lab: Any) -> None:
    submitted = [lab.submit() for _ in range(7)]
    seen, cursor = [], None
    while True:
        found = page(lab, cursor, limit=3)
        seen += ids(found)
        lab.submit()  # what comes in front does not shift what comes after
        cursor = found.next_cursor
        if not found.has_more:
            break
    assert seen == submitted[::-1]


def test_filters_hold_together(lab: Any) -> None:
    plain, tagged = lab.submit(), lab.submit(name="x", tags={"paper": "a", "arm": "1"})
    other = lab.submit(name="x", tags={"paper": "a", "arm": "2"})
    assert ids(page(lab, tags={"paper": "a"})) == [other, tagged]
    assert ids(page(lab, tags={"paper": "a", "arm": "1"})) == [tagged]
    assert ids(page(lab, tags={"arm": "a"})) == []
    assert ids(page(lab, tags={"arm": None})) == [other, tagged]
    assert ids(page(lab, name="x")) == [other, tagged]
    cancel(lab, other)
    assert ids(page(lab, states=(State.QUEUED,))) == [tagged, plain]
    assert ids(page(lab, states=(State.CANCELLED, State.FAILED), name="x")) == [other]


def test_a_cursor_belongs_to_its_filters(lab: Any) -> None:
    for _ in range(3):
        lab.submit(name="x")
    cursor = page(lab, limit=1, name="x").next_cursor
    assert len(ids(page(lab, cursor, name="x"))) == 2
    with pytest.raises(CursorInvalid):
        page(lab, cursor, name="y")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%%%", "AAAA", "\ud800", "é", "x" * 10_000, "W10", "e30", "bnVsbA", "WyJhIiwxLDJd"],
)
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        cursors.decode(cursor, [])


@pytest.mark.parametrize("position", [(float("nan"), "exp_1"), (float("inf"), "exp_1"), (1, "exp_1"), (1.0, "a\x00b")])
def test_a_cursor_with_an_impossible_position_is_refused(position: Any) -> None:
    with pytest.raises(CursorInvalid):
        cursors.decode(cursors.encode(position, []), [])


def test_cancelling_what_does_not_run_ends_it_at_once(lab: Any) -> None:
    experiment_id = lab.submit()
    row = cancel(lab, experiment_id)
    assert (row.state, row.finished_at is not None, row.waiting_for) == (State.CANCELLED, True, None)
    assert lab.claim() is None
    assert cancel(lab, experiment_id).version == row.version
    lab.change(experiment_id, state=State.PAUSED)
    assert cancel(lab, experiment_id).state is State.CANCELLED


def test_cancelling_what_runs_is_a_wish_and_repeats_change_nothing(lab: Any) -> None:
    lease = lab.running()
    row = cancel(lab, lease.job_id)
    assert (row.state, row.desired) == (State.RUNNING, "cancel")
    assert cancel(lab, lease.job_id).version == row.version
    assert lab.finish(lease, Cancelled()).desired is None


def test_cancelling_after_the_end_changes_nothing(lab: Any) -> None:
    row = lab.finish(lab.running(), Succeeded("budget", {}))
    again = cancel(lab, row.id)
    assert (again.state, again.version) == (State.SUCCEEDED, row.version)


def test_a_deleted_experiment_is_gone_for_every_reader(lab: Any) -> None:
    experiment_id = lab.submit()
    with pytest.raises(IllegalTransition) as caught:
        delete(lab, experiment_id)
    assert (caught.value.state, caught.value.allowed_actions) == (State.QUEUED, ("cancel", "pause"))
    cancel(lab, experiment_id)
    delete(lab, experiment_id)
    assert ids(page(lab)) == []
    for act in (lab.get, lambda gone: delete(lab, gone), lambda gone: cancel(lab, gone)):
        with pytest.raises(ExperimentNotFound):
            act(experiment_id)


def test_purging_deletes_all_bytes_in_bounded_batches(lab: Any, block: Any) -> None:
    lease, other = lab.running(), lab.running()
    for one in (lease, other):
        for step in range(1, 6):
            lab.append(one, block(step, a=[1]))
        lab.checkpoint(one, "last", 5, os.urandom(9 << 20))
        lab.finish(one, Succeeded("budget", {}))
    assert purge(lab) == 0
    delete(lab, lease.job_id)
    # A checkpoint, its files, the chunks and the content that nobody else has; segments, log lines and the job.
    assert purge_all(lab) == [1, 2, purging.STEP_CHUNKS, 1, 1, 5, 5, 1]
    for table, rows in lab.everything().items():
        assert not any(lease.job_id in row for row in rows), table
    assert len(lab.points(other.job_id, "a")[0]) == 5
    assert lab.checkpoints(other.job_id) == [("last", 5)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_gives_purged_bytes_back_to_the_disk(lab: Any) -> None:
    lease = lab.running()
    lab.checkpoint(lease, "last", 5, os.urandom(4 << 20))
    lab.finish(lease, Succeeded("budget", {}))
    delete(lab, lease.job_id)
    with lab.database.read() as session:
        before = session.execute(text("PRAGMA page_count")).scalar_one()
    assert purge_all(lab) != []
    with lab.database.read() as session:
        assert session.execute(text("PRAGMA page_count")).scalar_one() < before - 1000
        assert session.execute(text("PRAGMA freelist_count")).scalar_one() == 0


def test_marks_are_read_for_many_at_once(lab: Any) -> None:
    waiting, over = lab.submit(), lab.submit()
    version = cancel(lab, over).version
    with lab.database.read() as session:
        found = experiments.marks(session, [waiting, over, "exp_x"])
    assert found == {
        waiting: experiments.Mark(lab.get(waiting).version, is_terminal=False),
        over: experiments.Mark(version, is_terminal=True),
    }


def test_a_purge_keeps_the_row_that_a_repeated_request_would_make_again(lab: Any) -> None:
    scope = idempotency.Scope("own_1", "POST", "/v1/experiments", "once")
    with lab.database.write() as session:
        experiment_id = idempotency.submit_once(session, scope, lab.submission(), device="cpu").experiment.id
    cancel(lab, experiment_id)
    delete(lab, experiment_id)
    purge_all(lab)
    with lab.database.read() as session:
        assert not purging.is_due(session)
    with lab.database.write() as session, pytest.raises(ExperimentNotFound):
        idempotency.submit_once(session, scope, lab.submission(), device="cpu")
