"""The trainer process and its lifeline."""

import os
import threading
from pathlib import Path

import psutil
import pytest

from worker.trainer_process import TrainerGone, TrainerProcess
from worker.trainers import Trainers

_SECONDS = 30.0


@pytest.fixture
def start(tmp_path):
    started = []

    def make(name="waiting", on_end=lambda: None):
        started.append(TrainerProcess(tmp_path / f"{name}.log", "cpu", on_end))
        return started[-1]

    yield make
    for trainer in started:
        trainer.close()


def test_it_ends_with_its_standard_input_though_a_younger_sibling_lives(start):
    ended = threading.Event()
    older, younger = start("older", ended.set), start("younger")
    older.close()
    assert ended.is_set()
    assert older.returncode is not None
    assert not younger.ended


def test_it_has_a_session_of_its_own_and_knows_no_secret(start, monkeypatch):
    monkeypatch.setenv("BNLAB_DATABASE_URL", "postgresql://secret")
    trainer = start()
    assert os.getsid(trainer.pid) == trainer.pid
    assert not [name for name in psutil.Process(trainer.pid).environ() if name.startswith("BNLAB_")]


def test_its_end_is_noticed_and_its_last_words_are_kept(start, tmp_path):
    ended = threading.Event()
    trainer = start(on_end=ended.set)
    (tmp_path / "run").mkdir()
    trainer.train(tmp_path / "run", tmp_path / "run" / "trainer.log")
    assert ended.wait(_SECONDS)
    assert trainer.returncode == 1
    assert trainer.was_ready
    assert "spec.json" in trainer.last_words(1000)
    assert len(trainer.last_words(10)) <= 10


def test_a_dead_one_takes_no_work(start, tmp_path):
    trainer = start()
    trainer.kill()
    assert trainer.await_end(_SECONDS)
    assert trainer.returncode == -9
    with pytest.raises(TrainerGone):
        trainer.train(tmp_path, tmp_path / "trainer.log")


def test_one_that_died_while_it_waited_is_replaced(tmp_path):
    ended = threading.Event()
    others = set(psutil.Process().children())
    trainers = Trainers(tmp_path, "cpu", "prc_1", ended.set)
    try:
        trainers.warm_up()
        (first,) = set(psutil.Process().children()) - others
        first.kill()
        assert ended.wait(_SECONDS)
        (tmp_path / "run").mkdir()
        trainer = trainers.hand_over(tmp_path / "run", tmp_path / "run" / "trainer.log")
        assert trainer.pid != first.pid
        trainer.kill()
        trainer.close()
    finally:
        trainers.close()
    assert list(Path(tmp_path / ".waiting").iterdir()) == []
