"""What comes while a diagnostic measures for longer than the grace time: it is heard, and costs nothing but time.

The trainer is killed in the middle, with nothing half written, and what goes on has the numbers of one that nobody
disturbed.
"""

import signal

import pytest

from bncore.recording import from_bytes
from bncore.spec import load_spec
from store import checkpoints, experiments, owners, recordings
from store.experiments import Submission
from store.jobs import wishes
from store.jobs.wishes import By

SLOW_AT = 3
TRIES = 3
SPEC = {
    "network": {"kind": "mlp", "hidden": [64, 64]},
    "train": {"steps": 6, "seed": 3},
    "checkpoint": {"every_steps": 1, "keep_periodic": True},
    "diagnostics": [
        {"kind": "weight_norms", "every_steps": 1},
        # Before the slow one, at the same step, and larger than all else.
        {"kind": "gradient_heatmap", "at": [SLOW_AT], "examples": 1200},
        # Single precision never gets that far: all iterations are made, in seconds.
        {"kind": "hessian_top_eigenvalue", "at": [SLOW_AT], "examples": 1200, "iterations": 400, "tolerance": 1e-30},
    ],
}
GRACE = {"BNLAB_GRACE_SECONDS": "0.2"}


def begin(stack, **more):
    """An experiment that is in the middle of the slow diagnostic; if it was quicker than we looked, another."""
    for _ in range(TRIES):
        experiment = begun(stack, **more)
        if experiment is not None:
            return experiment
    raise AssertionError(f"{TRIES} were too quick to be interrupted")


def begun(stack, **more):
    """As `begin`, but None where it has ended."""
    experiment = stack.submit({**SPEC, **more})
    stack.until("it measures the slow one", lambda: is_inside(stack, experiment) or is_over(stack, experiment), 240.0)
    return None if is_over(stack, experiment) else experiment


def is_inside(stack, experiment):
    """The file before it is there, and it has been announced."""
    names = {name for name, _ in stack.recordings(experiment)}
    if f"hessian_top_eigenvalue-{SLOW_AT:09d}.safetensors" in names:
        return False
    row = stack.experiment(experiment)
    return row.state == "running" and row.phase == "diagnosing" and row.step == SLOW_AT


def is_over(stack, experiment):
    return stack.experiment(experiment).finished_at is not None


def wish(stack, experiment, asked):
    with stack.database.write() as session:
        if asked in ("resume", "retry"):
            getattr(wishes, asked)(session, experiment, By(None))
        else:
            wishes.ask(session, experiment, asked, By(None))


def assert_left_whole(stack, experiment, undisturbed):
    """Of the slow one nothing; all else that is there is what the undisturbed one has."""
    left, whole = dict(stack.recordings(experiment)), dict(stack.recordings(undisturbed))
    assert left.items() < whole.items()
    assert not [name for name in left if name.startswith("hessian")]
    with stack.database.read() as session:
        rows = recordings.listed(session, experiment)
    for row in rows:
        assert from_bytes(recordings.content(stack.database, row.id)).file_name == row.name
    assert stack.checkpoint(experiment).step < SLOW_AT


def assert_ended_equal(stack, experiment, undisturbed, attempts=2):
    row = stack.await_state(experiment, seconds=300.0)
    assert (row.state, row.restarts, row.attempt) == ("succeeded", 0, attempts)
    assert stack.recordings(experiment) == stack.recordings(undisturbed) != []
    mine, theirs = stack.series(experiment), stack.series(undisturbed)
    assert {key: (steps, values.tobytes()) for key, (steps, values) in mine.items()} == {
        key: (steps, values.tobytes()) for key, (steps, values) in theirs.items()
    }
    first, second = stack.checkpoint(experiment), stack.checkpoint(undisturbed)
    assert (first.step, first.weights.sha256) == (second.step, second.weights.sha256)


def undisturbed_of(stack, **more):
    experiment = stack.submit({**SPEC, **more})
    assert stack.await_state(experiment, seconds=300.0).state == "succeeded"
    return experiment


def paused(stack, experiment):
    wish(stack, experiment, "pause")
    stack.await_state(experiment, "paused")
    return lambda: wish(stack, experiment, "resume")


def cancelled(stack, experiment):
    wish(stack, experiment, "cancel")
    stack.await_state(experiment, "cancelled")
    return lambda: wish(stack, experiment, "retry")


def sent_away(stack, experiment):
    stack.signal("worker", signal.SIGTERM)
    assert stack.wait("worker") == 0
    assert stack.experiment(experiment).state == "queued"
    return lambda: stack.start_warm("worker")


@pytest.mark.timeout(900)
def test_paused_in_the_middle_of_a_slow_diagnostic_it_goes_on_as_if_it_had_not_been(make_stack, sqlite_url):
    assert_goes_on(make_stack, sqlite_url, paused)


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize("interrupted", [cancelled, sent_away])
def test_so_it_is_with_other_wishes(make_stack, postgresql_url, interrupted):
    assert_goes_on(make_stack, postgresql_url, interrupted)


def assert_goes_on(make_stack, database_url, interrupted):
    stack = make_stack(database_url, **GRACE)
    stack.start_warm("relay", "worker")
    undisturbed = undisturbed_of(stack)
    experiment = begin(stack)
    go_on = interrupted(stack, experiment)
    assert "trainer_killed" in stack.logged("worker")
    assert_left_whole(stack, experiment, undisturbed)
    go_on()
    assert_ended_equal(stack, experiment, undisturbed)


@pytest.mark.system
@pytest.mark.timeout(900)
def test_a_deadline_in_the_middle_of_a_slow_diagnostic_leaves_what_was_there(make_stack, sqlite_url):
    stack = make_stack(sqlite_url, **GRACE)
    stack.start_warm("relay", "worker")
    *quick, slow = SPEC["diagnostics"]
    wide = {"network": {"kind": "mlp", "hidden": [256] * 4}}
    # A machine that has not come to the slow one by its deadline has a later one, and a slower one.
    for times in (1, 4, 16):
        slower = [*quick, {**slow, "iterations": 1000 * times}]
        experiment = begun(stack, **wide, deadline_seconds=6.0 * times, diagnostics=slower)
        if experiment is not None:
            break
    row = stack.await_state(experiment, seconds=150.0)
    assert (row.state, row.failure_code) == ("failed", "deadline")
    assert_left_whole(stack, experiment, undisturbed_of(stack, **wide, diagnostics=[*quick, {**slow, "iterations": 2}]))


@pytest.mark.system
@pytest.mark.timeout(900)
def test_an_owner_without_room_in_the_middle_of_a_slow_diagnostic_retries_where_there_is_some(make_stack, sqlite_url):
    stack = make_stack(sqlite_url, **GRACE)
    stack.start_warm("relay", "worker")
    undisturbed = undisturbed_of(stack)
    stack.terminate("worker")
    stack.start_warm("worker", BNLAB_BYTES_PER_OWNER=str(room_for_half_of_the_heatmap(stack, undisturbed)))
    with stack.database.write() as session:
        owner = owners.create(session, "with little room")
        experiment = experiments.submit(session, Submission.of(load_spec(SPEC)), owner=owner, device="cpu").id
    row = stack.await_state(experiment)
    assert (row.state, row.failure_code, row.phase) == ("failed", "quota", None)
    assert_left_whole(stack, experiment, undisturbed)
    stack.terminate("worker")
    stack.start_warm("worker")
    wish(stack, experiment, "retry")
    assert_ended_equal(stack, experiment, undisturbed)


def room_for_half_of_the_heatmap(stack, experiment):
    """And for all that is stored before it."""
    with stack.database.read() as session:
        measured = recordings.listed(session, experiment)
        saved = [one for one in checkpoints.listed(session, experiment) if one.step < SLOW_AT]
    before = [one.size for one in measured if one.step < SLOW_AT]
    before += [file.size for one in saved for file in (one.weights, one.state) if file is not None]
    return sum(before) + next(one.size for one in measured if one.name.startswith("gradient_heatmap")) // 2
