"""Faults of hosts, disks and databases: they cost time, never an experiment and never other bits."""

import shutil
import signal
import sqlite3

import psutil
import pytest

from store.jobs import wishes
from store.jobs.wishes import By
from store.processes import live
from tests.worker.conftest import SHORT_LEASE

_SPEC = {
    "network": {"kind": "mlp", "hidden": [50, 50], "dropout": 0.1, "norm": {"kind": "batch_norm"}},
    "train": {"steps": 4000, "seed": 5},
    "evaluation": {"every_steps": 500},
    "checkpoint": {"every_steps": 300, "keep_periodic": True},
}


def _trainer(stack, worker="worker"):
    pid = [line["pid"] for line in stack.log(worker) if line["event"] == "training"][-1]
    return psutil.Process(pid)


def _cancel(stack, experiment):
    with stack.database.write() as session:
        wishes.ask(session, experiment, "cancel", By(None))
    return stack.await_state(experiment)


def _damage(stack, checkpoint_id):
    """Flip one bit of the weights, as a disk might."""
    path = stack.environment["BNLAB_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(path, timeout=30) as connection:
        weights = "SELECT content_id FROM files JOIN checkpoints ON weights_id = files.id WHERE checkpoints.id = ?"
        (content,) = connection.execute(weights, (checkpoint_id,)).fetchone()
        place = "WHERE content_id = ? AND seq = 0"
        (data,) = connection.execute(f"SELECT data FROM content_chunks {place}", (content,)).fetchone()
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        connection.execute(f"UPDATE content_chunks SET data = ? {place}", (flipped, content))
    connection.close()


@pytest.mark.system
def test_a_damaged_checkpoint_is_given_up_for_the_one_before_and_the_bits_stay(small_stack):
    stack = small_stack
    undisturbed = stack.submit(_SPEC)
    assert stack.await_state(undisturbed).state == "succeeded"
    experiment = stack.submit(_SPEC)
    stack.await_step(experiment, 1000)
    with stack.database.write() as session:
        wishes.ask(session, experiment, "pause", By(None))
    stack.await_state(experiment, "paused")
    newest = stack.checkpoint(experiment)
    _damage(stack, newest.id)
    with stack.database.write() as session:
        wishes.resume(session, experiment, By(None))
    row = stack.await_state(experiment)
    assert (row.state, row.restarts, row.attempt) == ("succeeded", 0, 2)
    assert (2, "checkpoint_damaged") in stack.events(experiment)
    assert stack.checkpoint(experiment).weights.sha256 == stack.checkpoint(undisturbed).weights.sha256
    assert stack.series(experiment)["train/loss"][0] == list(range(1, 4001))


@pytest.mark.system
def test_a_worker_that_is_started_again_gives_back_what_its_predecessor_had(make_stack, sqlite_url):
    # A lease so long that nobody would reap it within this test.
    stack = make_stack(sqlite_url, BNLAB_LEASE_SECONDS="600", BNLAB_TICK_SECONDS="5")
    stack.start_warm("relay", "worker")
    experiment = stack.submit({"train": {"steps": 1_000_000}})
    stack.await_step(experiment, 1)
    trainer = _trainer(stack)
    stack.kill("worker")
    trainer.wait(60)
    stack.start("worker")
    stack.await_step(experiment, 1, attempt=2)
    assert (1, "restarted") in stack.events(experiment)
    _cancel(stack, experiment)


@pytest.mark.system
def test_a_worker_that_is_told_to_go_while_a_writer_stands_hands_back_without_a_restart(make_stack, sqlite_url):
    stack = make_stack(sqlite_url, BNLAB_LEASE_SECONDS="600", BNLAB_TICK_SECONDS="1", BNLAB_GRACE_SECONDS="2")
    stack.start_warm("relay", "worker")
    experiment = stack.submit({"train": {"steps": 1_000_000}})
    stack.await_step(experiment, 1)
    trainer = _trainer(stack)
    stuck = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")
    stack.signal("worker", signal.SIGTERM)
    # Grace and the margin of the hard exit, whatever its threads hang in: the writer stands for ever.
    stack.wait("worker")
    trainer.wait(60)
    stuck.execute("ROLLBACK")
    stuck.close()
    stack.start("worker")
    stack.await_step(experiment, 1, attempt=2)
    assert stack.experiment(experiment).restarts <= 1
    _cancel(stack, experiment)


def test_a_trainer_stands_still_once_its_lease_has_lapsed_and_goes_on_when_it_is_renewed(make_stack, sqlite_url):
    stack = make_stack(sqlite_url, **SHORT_LEASE)
    stack.start_warm("relay", "worker")
    experiment = stack.submit({"train": {"steps": 1_000_000}})
    stack.await_step(experiment, 1)
    stuck = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
    # Nobody can write, and so nobody reaps either.
    stuck.execute("BEGIN IMMEDIATE")
    trainer = _trainer(stack)
    stack.until("it stands still", lambda: trainer.status() == psutil.STATUS_STOPPED)
    stuck.execute("ROLLBACK")
    stuck.close()
    step = stack.experiment(experiment).step
    stack.until("it goes on", lambda: stack.experiment(experiment).step > step + 1000)
    row = _cancel(stack, experiment)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, row.step + 1))


@pytest.mark.parametrize("spare", [1 << 60])
def test_a_worker_without_room_takes_nothing_and_says_so(make_stack, sqlite_url, spare):
    stack = make_stack(sqlite_url, BNLAB_SPARE_BYTES=str(spare))
    stack.start("worker")
    experiment = stack.submit({"train": {"steps": 10}})
    stack.await_log("worker", "takes_no_jobs")
    stack.until("its heartbeat says why", lambda: "MiB left" in _trouble(stack))
    assert stack.experiment(experiment).state == "queued"


def test_a_worker_whose_trainers_do_not_start_takes_nothing_until_they_do(make_stack, sqlite_url, tmp_path):
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: file too short')")
    stack = make_stack(sqlite_url, PYTHONPATH=str(tmp_path))
    experiment = stack.submit({"train": {"steps": 10}, "max_restarts": 0})
    stack.start("relay")
    stack.start("worker")
    stack.until("its heartbeat says why", lambda: "libtorch_cpu.so: file too short" in _trouble(stack))
    assert (stack.experiment(experiment).state, stack.experiment(experiment).attempt) == ("queued", 0)
    shutil.rmtree(broken)
    row = stack.await_state(experiment, "succeeded")
    assert (row.attempt, row.restarts) == (1, 0)
    stack.until("its heartbeat says so", lambda: not _trouble(stack))


@pytest.mark.system
def test_a_worker_whose_trainers_start_no_more_costs_jobs_no_restart(make_stack, sqlite_url, tmp_path):
    stack = make_stack(sqlite_url, PYTHONPATH=str(tmp_path))
    stack.start("relay")
    stack.start_warm("worker")
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("import time; time.sleep(0.5); raise ImportError('gone')")
    (zygote,) = stack.trainers("worker")
    zygote.kill()
    jobs = [stack.submit({"train": {"steps": 10}, "max_restarts": 0}) for _ in range(3)]
    stack.until("its heartbeat says why", lambda: "gone" in _trouble(stack))
    shutil.rmtree(broken)
    for job in jobs:
        row = stack.await_state(job)
        assert (row.state, row.restarts) == ("succeeded", 0)


def _trouble(stack):
    with stack.database.read() as session:
        return "".join(one.trouble or "" for one in live(session, within_seconds=60.0) if one.kind == "worker")
