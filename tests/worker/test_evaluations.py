"""Evaluations through a real worker: as the library finds it, killed or not, many at once, without their experiment."""

import contextlib
import os
import signal

import pytest
import torch
from safetensors.numpy import load

import bncore
from bncore.data import load_data
from bncore.spec import DigitsSpec, load_spec
from bncore.spec.evaluation import load_evaluation
from bncore.spec.prediction import Prediction
from store import evaluations, experiments, predictions
from store.evaluations import Submission
from store.jobs.wishes import By
from store.queueing import Limits, Submitter

SPEC = {
    "network": {"kind": "mlp", "hidden": [16], "norm": {"kind": "batch_norm"}},
    "optimizer": {"kind": "sgd", "lr": 0.3},
    "train": {"steps": 30, "batch_size": 60},
}
TRIES = 5
TENT = {"kind": "tent", "batch_size": 20, "lr": 0.01}


def ask(stack, experiment, statistics, **asked):
    wanted = load_evaluation({"data": {"kind": "digits"}, "statistics": statistics, **asked})
    with stack.database.write() as session:
        who = Submitter("own_tests", "cpu")
        return evaluations.submit(session, Submission.of(experiment, wanted), who, Limits())


def get(stack, evaluation):
    with stack.database.read() as session:
        return evaluations.get(session, evaluation)


def ended(stack, evaluation):
    stack.until(f"{evaluation} ends", lambda: get(stack, evaluation).finished_at is not None)
    row = get(stack, evaluation)
    assert row.state == "succeeded", (row.failure_code, row.failure_message)
    return row


@pytest.fixture(scope="module")
def trained(small_stack):
    experiment = small_stack.submit(SPEC)
    assert small_stack.await_state(experiment).state == "succeeded"
    return experiment


def test_it_finds_what_the_library_finds(small_stack, trained, tmp_path):
    made = {kind: ask(small_stack, trained, kind) for kind in ("source", "adabn", "prediction_time", "precise", "tent")}
    path = tmp_path / "best.safetensors"
    path.write_bytes(small_stack.content(small_stack.checkpoint(trained, "best")))
    model, data = bncore.load(path), load_data(DigitsSpec())
    train = [data.train.slice(first, first + 60) for first in range(0, 1200, 60)]
    for kind, evaluation in made.items():
        found = ended(small_stack, evaluation)
        expected = bncore.evaluate(model, data.test, kind, train=train)
        assert {key: found.result[key] for key in expected} == expected, kind
        assert (found.attempt, found.restarts) == (1, 0)
    runs = small_stack.directory / "runs"
    small_stack.until("run directories are gone", lambda: not list(runs.glob("evl_*")))


@pytest.mark.system
def test_killed_in_the_middle_it_begins_anew_and_finds_the_same(small_stack, trained):
    statistics = {**TENT, "steps": 40}
    undisturbed = ended(small_stack, ask(small_stack, trained, statistics, part="train"))
    found = killed_on_the_way(small_stack, lambda: ask(small_stack, trained, statistics, part="train"))
    assert (found.attempt, found.restarts) == (2, 1)
    assert found.result == undisturbed.result


def killed_on_the_way(stack, ask_for_one):
    """An evaluation that was killed and ended all the same; one that was through before is asked for again."""
    for _ in range(TRIES):
        evaluation = ask_for_one()
        stack.until("it evaluates", lambda one=evaluation: is_evaluating(get(stack, one)))
        lines = [line for line in stack.log("worker") if line["event"] == "working"]
        if lines[-1]["evaluation_id"] == evaluation:
            with contextlib.suppress(ProcessLookupError):
                os.kill(lines[-1]["pid"], signal.SIGKILL)
        found = ended(stack, evaluation)
        if found.attempt > 1:
            return found
    raise AssertionError(f"{TRIES} evaluations were through before they could be killed")


def is_evaluating(row):
    return row.phase == "evaluating" or row.finished_at is not None


@pytest.mark.system
def test_many_at_once_of_an_experiment_that_is_deleted_meanwhile(small_stack):
    experiment = small_stack.submit({**SPEC, "train": {**SPEC["train"], "seed": 7}})
    assert small_stack.await_state(experiment).state == "succeeded"
    asked = [{**TENT, "seed": number % 2, "steps": 3} for number in range(4)]
    made = [ask(small_stack, experiment, one) for one in asked]
    small_stack.until("one runs", lambda: any(get(small_stack, one).attempt for one in made))
    with small_stack.database.write() as session:
        experiments.delete(session, experiment, By(None))
    found = [ended(small_stack, one).result for one in made]
    assert found[:2] == found[2:]
    assert found[0]["after"]["loss"] != found[1]["after"]["loss"]


def test_a_network_goes_on_learning_from_a_checkpoint_and_frozen_parts_stay(small_stack, trained):
    best = small_stack.checkpoint(trained, "best")
    start = {"checkpoint": best.id, "freeze": "all_but_head", "reset_head": True}
    shown = load_spec(SPEC).model_dump(mode="json", include={"data", "network"})
    source = {"experiment": trained, "step": best.step, "sha256": best.weights.sha256, **shown}
    spec = {**SPEC, "train": {"steps": 12, "batch_size": 60}, "start_from": {**start, "source": source}}
    experiment = small_stack.submit(spec)
    assert small_stack.await_state(experiment).state == "succeeded"
    before, after = (load(small_stack.content(one)) for one in (best, small_stack.checkpoint(experiment)))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"output.weight", "output.bias"}


def test_a_few_inputs_are_predicted_as_the_library_does(small_stack, trained, tmp_path):
    part = load_data(DigitsSpec()).test.slice(0, 5)
    asked = Prediction.model_validate({"inputs": part.inputs.tolist()}).model_dump(mode="json")
    with small_stack.database.write() as session:
        made = predictions.ask(session, trained, "best", asked, Submitter("own_tests", "cpu"), Limits())

    def found():
        with small_stack.database.read() as session:
            return predictions.get(session, made)

    small_stack.until("it is answered", lambda: found().finished_at is not None)
    path = tmp_path / "best.safetensors"
    path.write_bytes(small_stack.content(small_stack.checkpoint(trained, "best")))
    with torch.no_grad():
        expected = bncore.load(path)(part.inputs).double().softmax(-1)
    assert found().result["probabilities"] == expected.tolist()
    assert found().result["classes"] == expected.argmax(-1).tolist()
