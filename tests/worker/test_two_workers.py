"""Two workers and one queue: sharing it, and one that comes back too late."""

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from store.tables import ContentChunk, Experiment, Job, JobEvent, MetricSegment
from tests.worker.conftest import SHORT_LEASE


@pytest.fixture
def stack(make_stack, postgresql_url):
    """Not on SQLite: a worker that stops in the middle of a transaction there stops everybody."""
    stack = make_stack(postgresql_url, **SHORT_LEASE)
    stack.start_warm("relay", "worker-1", "worker-2")
    return stack


def _spec(steps):
    return {"train": {"steps": steps}, "checkpoint": {"every_steps": 400}}


def _everything(stack):
    """Every row that an experiment's worker may write."""
    with stack.database.read() as session:
        return [
            [
                tuple(getattr(row, column.name) for column in table.__table__.columns)
                for row in session.query(table).all()
            ]
            for table in (Job, Experiment, JobEvent, MetricSegment, ContentChunk)
        ]


@pytest.mark.system
def test_both_take_from_the_queue_and_a_worker_that_lost_its_lease_changes_nothing(stack):
    both = [stack.submit(_spec(1_000_000)), stack.submit(_spec(1_000_000))]
    for experiment in both:
        stack.await_step(experiment, 1)
    processes = {stack.experiment(experiment).process_id for experiment in both}
    assert len(processes) == 2
    stack.cancel(both[1])
    assert stack.await_state(both[1]).state == "cancelled"

    name = next(name for name in ("worker-1", "worker-2") if both[0] in stack.log_path(name).read_text())
    (pid,) = [line["pid"] for line in stack.log(name) if line.get("experiment_id") == both[0] and "pid" in line]
    trainer = psutil.Process(pid)
    stack.until("it stops between two transactions", lambda: _paused_without_locks(stack, name, both[0]))
    stack.await_step(both[0], 1, attempt=2)
    assert stack.experiment(both[0]).restarts == 1
    stack.cancel(both[0])
    assert stack.await_state(both[0]).state == "cancelled"

    # It was away for longer than its lease. Its trainer did not wait for it to come back, but went by itself.
    stack.until("its trainer has ended", lambda: trainer.status() == psutil.STATUS_ZOMBIE)
    before = _everything(stack)
    stack.resume(name)
    stack.await_log(name, "lease_lost")
    stack.until("the worker has buried its trainer", lambda: not trainer.is_running())
    assert _everything(stack) == before


def _paused_without_locks(stack, name, experiment):
    stack.pause(name)
    try:
        with stack.database.write() as session:
            session.get(Job, experiment, with_for_update={"nowait": True})
    except OperationalError:
        stack.resume(name)
        return False
    return True
