"""Diagnostics while a network trains: they leave no trace in it, and a disturbed run measures what another one does."""

import itertools
import re
from typing import Any

import pytest
import torch

from bncore.events import NormsChecked, PhaseChanged
from bncore.recording import from_bytes
from tests.bncore.train.diagnosed import OFF, all_of, failures, recordings, spec_of


@pytest.mark.parametrize(
    "name",
    ["mlp", "cnn", "lstm", *(pytest.param(name, marks=pytest.mark.system) for name in ("resnet", "transformer"))],
)
def test_training_is_the_same_with_all_of_them_and_none(runs: Any, name: str) -> None:
    with_all, without = runs.train(spec_of(name, all_of(name))), runs.train(spec_of(name, OFF))
    assert with_all.events[-1].kind == "finished", with_all.events[-1]
    assert failures(with_all) == []
    files = recordings(with_all)
    assert {from_bytes(content).kind for content in files.values()} == {one["kind"] for one in all_of(name)}
    assert {from_bytes(content).step for content in files.values()} == {0, 3, 6, 8}
    assert recordings(without) == {}
    first, second = with_all.checkpoints("last")[-1], without.checkpoints("last")[-1]
    mine = {key: value for key, value in with_all.tensors(first).items() if not key.startswith("diagnostics/")}
    theirs = without.tensors(second)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    shared = {key: points for key, points in with_all.series().items() if not key.startswith("diagnostics/")}
    assert shared == without.series()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.timeout(1200)
def test_so_it_is_with_everything_at_once(runs: Any) -> None:
    """Compiled, in half precision, in micro-batches, with an average, in channels_last."""
    resources = {"channels_last": True, "compile": True}
    with_all = runs.train(spec_of("cnn", all_of("cnn"), resources=resources))
    torch.compiler.reset()
    without = runs.train(spec_of("cnn", OFF, resources=resources))
    torch.compiler.reset()
    resumed = runs.train(spec_of("cnn", all_of("cnn"), resources=resources), after=with_all, step=6)
    assert failures(with_all) == failures(resumed) == []
    runs.assert_continued(with_all, resumed, 6)
    mine, theirs = (run.tensors(run.checkpoints("last")[-1]) for run in (with_all, without))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_a_resumed_run_measures_what_an_undisturbed_one_does(runs: Any, name: str) -> None:
    spec = spec_of(name, all_of(name))
    whole = runs.train(spec)
    for step in (3, 6):
        resumed = runs.train(spec, after=whole, step=step)
        runs.assert_continued(whole, resumed, step)
        kept = {key: value for key, value in recordings(whole).items() if from_bytes(value).step <= step}
        again = recordings(resumed)
        assert not kept.keys() & again.keys()
        assert kept | again == recordings(whole)


def test_one_that_fails_costs_its_own_measurement(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bncore import diagnostics

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the device is full\nof lines")

    monkeypatch.setattr(diagnostics, "step_probe", fails)
    asked = [{"kind": "step_probe", "at": [0, 4]}, {"kind": "weight_norms", "at": [4]}]
    run = runs.train(spec_of("mlp", asked))
    assert run.events[-1].kind == "finished"
    assert failures(run) == [
        f"step_probe was not measured at step {step}: RuntimeError: the device is full" for step in (0, 4)
    ]
    assert {name for name in recordings(run) if not name.startswith("norm_health")} == {
        "weight_norms-000000004.safetensors"
    }


def test_the_same_warnings_are_said_once_and_their_end_too(runs: Any) -> None:
    """Eight steps are too few for the momentum of batch renorm."""
    run = runs.train(spec_of("mlp", [{"kind": "norm_health", "every_steps": 2}]))
    said = [event for event in run.events if isinstance(event, NormsChecked)]
    assert said
    assert all(one.warnings != other.warnings for one, other in itertools.pairwise(said))
    assert any("momentum" in warning for warning in said[-1].warnings)
    counted = run.series()["diagnostics/norm_health/warnings"]
    assert counted[8] == len(said[-1].warnings)
    final = from_bytes(recordings(run)["norm_health-000000008.safetensors"])
    assert {"accuracy_running", "accuracy_batch", "accuracy_precise"} <= final.scalars.keys()
    assert final.scalars["accuracy_running"] == run.events[-1].summary.test_accuracy


def test_warnings_of_other_numbers_are_said_at_the_end_and_not_at_every_step(runs: Any) -> None:
    """The share by which training and evaluation differ is another one each time."""
    spec = {
        "network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "batch_norm", "momentum": 0.2}},
        "optimizer": {"kind": "sgd", "lr": 1.0},
        "train": {"steps": 30, "batch_size": 16, "seed": 3},
    }
    run = runs.train({**spec, "diagnostics": [{"kind": "norm_health", "every_steps": 1}]})
    *before, ended = [event for event in run.events if isinstance(event, NormsChecked)]
    counted = run.series()["diagnostics/norm_health/warnings"]
    assert sum(count > 0 for count in counted.values()) > 10
    wordings = [[re.sub(r"\d+%", "#", one) for one in event.warnings] for event in before]
    assert wordings
    assert all(one != other for one, other in itertools.pairwise(wordings))
    assert (ended.step, len(ended.warnings)) == (30, counted[30])


def test_a_run_that_ends_early_is_measured_where_it_ends(runs: Any) -> None:
    spec = spec_of("mlp", [], train={"steps": 40, "target": {"test_accuracy": 0.0, "stop": True}})
    assert list(recordings(runs.train(spec))) == ["norm_health-000000005.safetensors"]
    diverges = spec_of("mlp", [], optimizer={"kind": "sgd", "lr": 1e4}, train={"steps": 40})
    run = runs.train({**diverges, "network": {"kind": "mlp", "hidden": [12], "norm": {"kind": "batch_norm"}}})
    assert failures(run) == []
    assert len(recordings(run)) == 1


def test_a_diagnostic_is_announced_though_quicker_ones_went_before(runs: Any) -> None:
    """Whoever watches sees why the steps stand still: what took a millisecond before says nothing of another kind."""
    asked = [{"kind": "weight_norms", "every_steps": 1}, {"kind": "hessian_top_eigenvalue", "at": [4], "examples": 8}]
    events = runs.train(spec_of("mlp", [*asked, *OFF])).events
    first = next(at for at, event in enumerate(events) if getattr(event, "name", "").startswith("hessian"))
    before = [at for at, event in enumerate(events[:first]) if getattr(event, "name", "").startswith("weight_norms")]
    assert len(before) == 4
    phases = [event.phase for event in events[before[-1] : first] if isinstance(event, PhaseChanged)]
    assert phases[-1] == "diagnosing"


def test_without_normalizations_nothing_is_measured_by_itself(runs: Any) -> None:
    run = runs.train({"network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "none"}}, "train": {"steps": 3}})
    assert recordings(run) == {}
    assert not [key for key in run.series() if key.startswith("diagnostics/")]
