"""A run that rests at a step stops exactly there, by itself, and goes on with the bits that it would have had."""

import json
from typing import Any

import pytest

from bncore.run_directory import RunLayout
from bncore.train import run_attempt
from tests.bncore.train.test_resume import full


def attempt(runs: Any, spec: Any, rest_at: int | None, after: Any = None, step: int | None = None) -> Any:
    run = runs.prepare(spec, after, step)
    if rest_at is not None:
        RunLayout(run.path).rest.write_text(json.dumps({"step": rest_at}))
    run_attempt(run.path)
    return run


@pytest.mark.parametrize(
    "name", ["mlp with dropout, sgd with momentum", "cnn, channels last, in micro-batches, with an average"]
)
@pytest.mark.parametrize("steps", [(20, 60), (33, 74), (22, 44)])
def test_it_goes_on_to_the_bits_of_a_run_that_never_rested(runs: Any, name: str, steps: tuple[int, int]) -> None:
    spec = full(name)
    whole, before, rested = runs.train(spec), None, None
    joined: dict[str, dict[int, float]] = {}
    for rest_at, former in zip((*steps, None), (None, *steps), strict=True):
        rested = attempt(runs, spec, rest_at, before, former)
        end = rested.events[-1]
        assert (end.kind, end.step) == (("finished", 75) if rest_at is None else ("rested", rest_at))
        assert rested.checkpoints("last")[-1].step == end.step
        for key, points in rested.series().items():
            assert not joined.setdefault(key, {}).keys() & points.keys()
            joined[key] |= points
        before = rested
    assert str(joined) == str(whole.series())
    last, other = whole.checkpoints("last")[-1], rested.checkpoints("last")[-1]
    assert (last.weights.sha256, last.step) == (other.weights.sha256, other.step)
    expected, found = whole.tensors(last), rested.tensors(other)
    assert expected.keys() == found.keys()
    assert all(expected[key].equal(found[key]) for key in expected)
    kept, again = (run.events[-1].summary.model_dump(exclude={"seconds"}) for run in (whole, rested))
    assert kept == again


def test_one_that_has_come_there_already_only_says_so(runs: Any) -> None:
    spec = full("mlp with layer norm, plain sgd, uneven batches")
    first = attempt(runs, spec, 40)
    again = attempt(runs, spec, 40, first, 40)
    assert [event.kind for event in again.events] == ["phase", "phase", "phase", "started", "rested"]


def test_what_ends_before_or_there_has_ended(runs: Any) -> None:
    """At its target, at the step itself; a divergence at the next step at which one is an end."""
    spec = full("mlp with layer norm, plain sgd, uneven batches")
    reached = {**spec, "train": {**spec["train"], "target": {"test_accuracy": 0.0, "stop": True}}}
    run = attempt(runs, reached, 20)
    assert (run.events[-1].kind, run.events[-1].stop_reason, run.events[-1].step) == ("finished", "target_reached", 20)
    lost = {**spec, "optimizer": {"kind": "sgd", "lr": 1e4}, "network": {"kind": "mlp", "norm": {"kind": "none"}}}
    whole = runs.train(lost)
    assert (whole.events[-1].stop_reason, whole.events[-1].step) == ("diverged", 32)
    rested = attempt(runs, lost, 20)
    assert rested.events[-1].kind == "rested"
    resumed = attempt(runs, lost, None, rested, 20)
    # Nothing equals a NaN: the files are compared.
    for last, other in zip(whole.checkpoints("last")[-1:], resumed.checkpoints("last")[-1:], strict=True):
        assert (last.weights.sha256, last.step) == (other.weights.sha256, other.step)
    assert (resumed.events[-1].stop_reason, resumed.events[-1].step) == ("diverged", 32)
