"""Trainers of a worker: forked from the process that waits, or that process itself."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bncore.events import decode
from bncore.run_directory import EXIT_ALONE, EXIT_BUSY
from worker.run_directory import RunDirectory
from worker.trainers import Trainers

SECONDS = 180.0
MLP = {"network": {"kind": "mlp", "hidden": [24, 24], "dropout": 0.2}, "optimizer": {"kind": "sgd", "momentum": 0.9}}
CNN = {"network": {"kind": "cnn", "channels": [4, 6]}, "optimizer": {"kind": "adam"}}
TINY = {"network": {"kind": "mlp", "hidden": [2]}, "train": {"steps": 1}}
LONG = {**MLP, "train": {"steps": 10_000_000}}


class Workshop:
    """Trainers, and directories for them to train in."""

    def __init__(self, folder: Path, device: str = "cpu", alone_seconds: float | None = None) -> None:
        self.folder = folder
        self.news = threading.Event()
        self.ended = threading.Event()
        self.trainers = Trainers(folder, device, "prc_1", self.ended.set, self.news.set, alone_seconds)
        self._count = 0

    def await_ready(self) -> None:
        self.trainers.warm_up()
        until(lambda: self.trainers.ready)

    def waiting(self) -> list[psutil.Process]:
        """The process that waits: the child whose standard input is a socket."""
        return [child for child in psutil.Process().children() if _waits(child, self.folder)]

    def await_other(self, than: psutil.Process) -> None:
        until(lambda: self.trainers.ready and [than] != self.waiting() != [])

    def hand_over(self, spec):
        self._count += 1
        path = self.folder / f"run-{self._count}"
        path.mkdir(exist_ok=True)
        (path / "spec.json").write_text(json.dumps(spec))
        self.news.clear()
        self.ended.clear()
        trainer = self.trainers.hand_over(path, path / "trainer.log")
        return trainer, path

    def train(self, spec):
        trainer, path = self.hand_over(spec)
        assert trainer.await_end(SECONDS)
        trainer.close()
        return trainer, path


def _waits(process: psutil.Process, folder: Path) -> bool:
    try:
        socket = os.readlink(f"/proc/{process.pid}/fd/0").startswith("socket")
        return socket and process.environ()["TMPDIR"].startswith(str(folder))
    except (OSError, psutil.Error):
        return False  # it has ended


def until(holds):
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def events(path):
    lines = (path / "events.jsonl").read_bytes().splitlines(keepends=True)
    return [decode(line) for line in lines if line.endswith(b"\n")]


def await_numbers(path):
    """The first numbers of a run, which may still go on."""
    file = path / "events.jsonl"
    until(lambda: file.exists() and any(event.kind == "metrics" for event in events(path)))
    return next(event for event in events(path) if event.kind == "metrics")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Workshop(tmp_path_factory.mktemp("shop"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNLAB_DATABASE_URL", "postgresql://secret")
        shop.await_ready()
    yield shop
    shop.trainers.close()


@pytest.fixture
def training(shop):
    """A trainer that trains, and its directory."""
    trainer, path = shop.hand_over(LONG)
    await_numbers(path)
    yield trainer, path
    trainer.kill()
    trainer.close()


def test_a_run_begins_at_once_and_rings_with_its_first_numbers(shop):
    trainer, path = shop.hand_over({**MLP, "train": {"steps": 2000}})
    assert shop.news.wait(SECONDS)
    first = await_numbers(path)
    assert first.first_step == first.count == 1
    assert trainer.await_end(SECONDS)
    assert (trainer.returncode, trainer.was_ready, events(path)[-1].kind) == (0, True, "finished")
    trainer.close()


def test_it_has_a_session_of_its_own_and_this_parent_knows_no_secret_and_ends_with_its_standard_input(shop):
    trainer, path = shop.hand_over(LONG)
    await_numbers(path)
    process = psutil.Process(trainer.pid)
    assert os.getsid(trainer.pid) == trainer.pid
    assert process.ppid() == os.getpid()
    assert not [name for name in process.environ() if name.startswith("BNLAB_")]
    trainer.close()
    assert trainer.returncode == EXIT_ALONE
    assert events(path)[-1].kind not in ("finished", "stopped", "failed")


def test_its_end_is_noticed_and_its_last_words_are_kept(shop):
    trainer, _ = shop.train({"train": {"batch_size": 0}})
    assert shop.ended.wait(SECONDS)
    assert trainer.returncode == 1
    assert "trainer_error: SpecError: /train/batch_size" in trainer.last_words(1000)
    assert len(trainer.last_words(10)) <= 10


def test_asked_to_stop_the_moment_it_is_handed_over_it_says_that_it_stopped(shop):
    trainer, path = shop.hand_over(LONG)
    trainer.stop()
    assert trainer.await_end(SECONDS)
    assert (trainer.returncode, events(path)[-1].kind) == (0, "stopped")
    trainer.close()


def test_killed_it_is_seen_to_be_and_the_next_begins_at_once(shop, training):
    trainer, _ = training
    trainer.kill()
    assert trainer.await_end(SECONDS)
    assert shop.ended.wait(SECONDS)
    assert trainer.returncode == -signal.SIGKILL
    assert shop.trainers.ready
    assert shop.train(TINY)[0].returncode == 0


def test_a_trainer_goes_on_without_the_process_it_was_forked_from_and_its_end_is_known(shop, training):
    trainer, path = training
    (zygote,) = shop.waiting()
    zygote.kill()
    shop.await_other(zygote)
    assert not trainer.ended
    assert psutil.Process(trainer.pid).ppid() == os.getpid()
    trainer.stop()
    assert trainer.await_end(SECONDS)
    assert (trainer.returncode, events(path)[-1].kind) == (0, "stopped")


@pytest.mark.parametrize("end", ["killed", "stopped while it waits"])
def test_the_next_attempt_on_this_host_trains_only_when_the_one_before_has_ended(shop, end):
    experiment = "exp_" + "0" * 32
    with RunDirectory(shop.folder, experiment, 1) as one, RunDirectory(shop.folder, experiment, 2) as two:
        for directory in (one, two):
            directory.spec.write_text(json.dumps(LONG))
        before, after = (shop.trainers.hand_over(directory.path, directory.log) for directory in (one, two))
        until(lambda: "waiting for its end" in after.last_words(1000))
        assert not two.events.exists()
        if end == "killed":
            before.kill()
            until(lambda: two.events.exists() and "first_step" in two.events.read_text())
        else:
            after.stop()
            assert after.await_end(SECONDS)
            assert after.returncode == EXIT_BUSY
            assert not before.ended
        for trainer in (before, after):
            trainer.kill()
            trainer.close()


def test_without_the_waiting_process_a_run_is_trained_all_the_same(shop):
    (zygote,) = shop.waiting()
    zygote.kill()
    trainer, path = shop.train(TINY)
    assert (trainer.returncode, events(path)[-1].kind) == (0, "finished")
    # The one that trained was not ready; another is, soon.
    shop.await_other(zygote)
    assert shop.waiting()[0].pid != trainer.pid


def test_a_waiting_process_that_does_not_answer_is_replaced(shop):
    (zygote,) = shop.waiting()
    zygote.send_signal(signal.SIGSTOP)
    trainer, path = shop.train(TINY)
    assert (trainer.returncode, events(path)[-1].kind) == (0, "finished")
    shop.await_other(zygote)
    assert not zygote.is_running()


def test_one_that_may_not_fork_trains_by_itself_and_is_replaced_when_it_is_asked_for(tmp_path):
    shop = Workshop(tmp_path, device="cuda")
    shop.await_ready()
    (zygote,) = shop.waiting()
    trainer, path = shop.train({**TINY, "resources": {"device": "cpu"}})
    assert trainer.pid == zygote.pid
    assert (trainer.returncode, events(path)[-1].kind) == (0, "finished")
    assert not shop.trainers.ready
    shop.await_ready()
    shop.trainers.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [".lock"]


WORKER = """
import json, psutil, sys, threading
from pathlib import Path
from worker.trainers import Trainers
folder, alone_seconds, news = Path(sys.argv[1]), float(sys.argv[2]), threading.Event()
trainers = Trainers(folder, "cpu", "prc_2", news.set, news.set, alone_seconds)
trainers.warm_up()
while not trainers.ready:
    news.wait(0.01)
news.clear()
trainer = trainers.hand_over(folder, folder / "trainer.log")
news.wait()
(waiting,) = {child.pid for child in psutil.Process().children()} - {trainer.pid}
print("waiting and trainer", waiting, trainer.pid, flush=True)
news.clear()
while True:
    news.wait()
"""


def test_a_worker_that_stands_still_has_no_trainer_soon_and_a_killed_one_nothing(tmp_path):
    # To a busy machine one that had no turn for so long is one that stands still: until it is long enough.
    for alone_seconds in (0.5, 3.0, 10.0):
        folder = tmp_path / str(alone_seconds)
        folder.mkdir()
        (folder / "spec.json").write_text(json.dumps(LONG))
        command = [sys.executable, "-P", "-c", WORKER, str(folder), str(alone_seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            waiting, trainer = (os.pidfd_open(int(pid)) for pid in _said(worker, "waiting and trainer"))
            # More than it is allowed for at once: it is allowed again and again.
            lived = not select.select([trainer], [], [], 2 * alone_seconds)[0]
            worker.send_signal(signal.SIGSTOP)
            assert select.select([trainer], [], [], SECONDS)[0] == [trainer]
            worker.kill()
            assert select.select([waiting], [], [], SECONDS)[0] == [waiting]
        os.close(waiting)
        os.close(trainer)
        if lived:
            return
    raise AssertionError("its trainer did not outlive the first time that it was allowed for")


def _said(process, words):
    return next(line.removeprefix(words) for line in process.stdout if line.startswith(words)).split()


def _held(shop):
    (zygote,) = shop.waiting()
    mine = psutil.Process()
    return {
        "descriptors": mine.num_fds(),
        "threads": mine.num_threads(),
        "children": len(mine.children(recursive=True)),
        "descriptors of the waiting process": zygote.num_fds(),
        "threads of the waiting process": zygote.num_threads(),
    }


def _memory(shop):
    return [process.memory_info().rss for process in (psutil.Process(), *shop.waiting())]


@pytest.mark.parametrize("runs", [30, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_many_runs_in_a_row_leave_nothing_behind(shop, runs):
    shop.train(TINY)
    before, memory = _held(shop), _memory(shop)
    for _ in range(runs):
        assert shop.train(TINY)[0].returncode == 0
    # What the run before the first look, or another test, had not yet let go of may be gone by now.
    until(lambda: all(now <= before[what] for what, now in _held(shop).items()))
    assert all(now - then < 8 << 20 for then, now in zip(memory, _memory(shop), strict=True))


@pytest.mark.parametrize(
    ("spec", "threads"),
    [(MLP, 1), pytest.param(CNN, 2, marks=pytest.mark.system)],
    ids=["mlp, one thread", "cnn, two threads"],
)
def test_forked_and_resumed_it_ends_with_the_bits_of_a_process_of_its_own(shop, tmp_path, spec, threads):
    spec = {**spec, "train": {"steps": 15, "seed": 5, "batch_size": 300}, "resources": {"threads": threads}}
    spec["checkpoint"] = {"every_steps": 6}
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "spec.json").write_text(json.dumps(spec))
    subprocess.run([sys.executable, "-P", "-m", "bncore", str(alone)], check=True, capture_output=True)
    _, forked = shop.train(spec)
    assert _saved(forked) == _saved(alone)

    restore = shop.folder / f"run-{shop._count + 1}" / "restore"
    restore.mkdir(parents=True)
    for kind in ("", ".state"):
        os.link(
            alone / "checkpoints" / f"last-000000006{kind}.safetensors",
            restore / f"{kind[1:] or 'weights'}.safetensors",
        )
    _, resumed = shop.train(spec)
    assert _saved(resumed) == {step: sha256 for step, sha256 in _saved(alone).items() if step > 6}


def _saved(path):
    return {e.step: e.weights.sha256 for e in events(path) if e.kind == "checkpoint" and e.checkpoint_kind == "last"}
