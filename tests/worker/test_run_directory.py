"""Run directories: whose they are, and when they go."""

import fcntl

import pytest

from worker.run_directory import RunDirectory, WaitingDirectory, remove_leftovers

_EXPERIMENT = "exp_" + "0" * 32


def test_a_directory_is_there_for_its_attempt_and_gone_after_it(tmp_path):
    with RunDirectory(tmp_path, _EXPERIMENT, 1) as directory:
        directory.spec.write_text("{}")
        assert directory.path == tmp_path / _EXPERIMENT / "1"
    assert not (tmp_path / _EXPERIMENT).exists()


def test_a_directory_in_use_is_no_leftover(tmp_path):
    with RunDirectory(tmp_path, _EXPERIMENT, 1) as mine:
        assert remove_leftovers(tmp_path) == []
        assert mine.path.exists()


def test_the_directory_of_a_crashed_attempt_is_removed_once_its_trainer_is_gone_too(tmp_path):
    left = tmp_path / _EXPERIMENT / "2"
    left.mkdir(parents=True)
    (left / "events.jsonl").write_text("")
    with (left / "lock").open("w") as trainer:
        fcntl.flock(trainer, fcntl.LOCK_EX)
        assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path) == [left]
    assert not left.exists()


def test_one_attempt_leaves_the_directory_of_another_alone(tmp_path):
    with RunDirectory(tmp_path, _EXPERIMENT, 2) as second:
        with RunDirectory(tmp_path, _EXPERIMENT, 1):
            pass
        assert second.path.exists()


def test_the_attempts_of_one_experiment_share_one_lock_and_those_of_others_do_not(tmp_path):
    elsewhere = RunDirectory(tmp_path, "exp_" + "1" * 32, 1)
    with (
        RunDirectory(tmp_path, _EXPERIMENT, 1) as one,
        RunDirectory(tmp_path, _EXPERIMENT, 2) as two,
        elsewhere,
        one.lock.open("w") as trainer,
        two.lock.open("w") as successor,
        elsewhere.lock.open("w") as stranger,
    ):
        fcntl.flock(trainer, fcntl.LOCK_EX)
        fcntl.flock(stranger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_worker_was_waiting_in_is_removed_and_what_a_living_one_waits_in_is_not(tmp_path):
    left = tmp_path / ".waiting" / "prc_1"
    left.mkdir(parents=True)
    (left / "0.log").write_text("ready")
    with WaitingDirectory(tmp_path, "prc_2") as mine:
        assert remove_leftovers(tmp_path) == [left]
        assert mine.path.exists()
    assert not (tmp_path / ".waiting").exists()
