"""Run directories: whose they are, and when they go."""

import fcntl

from worker.run_directory import RunDirectory, remove_leftovers

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
