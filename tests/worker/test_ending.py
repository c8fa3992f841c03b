"""What follows from the way a trainer ended."""

import pytest

from bncore.events import Failed as TrainerFailed
from bncore.events import Finished, FirstStep, Stopped, Summary
from store.jobs.failures import CODES, Remedy
from store.work import Cancelled, Failed, Paused, Released, Succeeded
from worker.ending import Exit, judge

_SUMMARY = Summary(steps=5, seconds=1.0, test_accuracy=0.5, test_loss=1.0, best_test_accuracy=0.5)
_FINISHED = Finished(stop_reason="budget", step=5, summary=_SUMMARY)
_STOPPED = Stopped(step=3)
_TRAINING = FirstStep(step=1)


def _exit(last_event, returncode=0, was_ready=True, last_words=""):
    return Exit(last_event, returncode, was_ready, last_words)


@pytest.mark.parametrize("asked", [None, "cancel", "pause", "deadline", "shutdown"])
def test_a_finished_budget_has_succeeded_whatever_was_asked(asked):
    assert judge(_exit(_FINISHED), asked) == Succeeded("budget", _SUMMARY.model_dump())


@pytest.mark.parametrize("end", [_exit(_STOPPED), _exit(_TRAINING, -9), _exit(None, -15)])
@pytest.mark.parametrize(
    ("asked", "ending"),
    [("cancel", Cancelled()), ("kill", Cancelled()), ("pause", Paused()), ("shutdown", Released())],
)
def test_a_trainer_that_was_told_to_stop_ends_as_asked_even_if_it_had_to_be_killed(end, asked, ending):
    assert judge(end, asked) == ending


def test_the_deadline_is_a_failure_with_its_own_code():
    ending = judge(_exit(_STOPPED), "deadline")
    assert isinstance(ending, Failed)
    assert ending.code == "deadline"


def test_a_trainer_killed_by_a_signal_is_a_restart():
    ending = judge(_exit(_TRAINING, -9), None)
    assert isinstance(ending, Failed)
    assert CODES[ending.code].remedy is Remedy.RESTART
    assert ending.code == "trainer_killed"
    assert "SIGKILL" in ending.message


def test_a_trainer_that_says_why_it_failed_is_believed():
    said = TrainerFailed(code="invalid_data", message="no labels")
    assert judge(_exit(said, 1), None) == Failed("invalid_data", "no labels")


def test_a_trainer_that_vanishes_without_a_word_fails_with_the_end_of_its_log():
    ending = judge(_exit(_TRAINING, 3, last_words="Traceback: boom"), None)
    assert ending == Failed("trainer_error", "The trainer ended with exit code 3: Traceback: boom")


def test_a_trainer_that_never_was_ready_is_its_workers_fault():
    ending = judge(_exit(None, 1, was_ready=False, last_words="No module named torch"), None)
    assert isinstance(ending, Failed)
    assert ending.code == "trainer_not_started"
    assert CODES[ending.code].remedy is Remedy.WAIT


@pytest.mark.parametrize(("code", "said"), [(73, "trainer_busy"), (74, "disk_full"), (75, "worker_lost")])
def test_what_the_host_is_to_blame_for_is_no_error_of_the_experiment(code, said):
    ending = judge(_exit(_TRAINING, code), None)
    assert isinstance(ending, Failed)
    assert ending.code == said
    assert CODES[said].remedy is not Remedy.FINAL


def test_a_trainer_stopped_by_somebody_else_has_saved_everything_and_is_handed_back():
    assert judge(_exit(_STOPPED), None) == Released()
