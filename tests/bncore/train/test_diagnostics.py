"""Diagnostics while a network trains: they leave no trace in it, and a disturbed run measures what another one does."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bncore.events import FileSaved, NormsChecked, Note
from bncore.recording import from_bytes
from bncore.spec import kinds

OFF = [{"kind": "norm_health", "enabled": False}]
DIGITS_ROWS = {"kind": "digits", "as": "row"}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"network": {"kind": "mlp", "hidden": [12, 12], "dropout": 0.2, "norm": {"kind": "batch_renorm"}}},
    "cnn": {
        "network": {"kind": "cnn", "channels": [4, 6], "dropout": 0.1},
        "train": {"precision": "bf16", "accumulate": 2, "ema": {"decay": 0.9}},
        "resources": {"channels_last": True},
    },
    "resnet": {"network": {"kind": "resnet", "depth": 8, "width": 4}},
    "lstm": {
        "data": DIGITS_ROWS,
        "network": {"kind": "lstm", "hidden": [6], "norm": {"kind": "step_batch_norm"}},
    },
    "transformer": {
        "data": DIGITS_ROWS,
        "network": {
            "kind": "transformer_encoder",
            "width": 8,
            "heads": 2,
            "blocks": 1,
            "mlp_width": 12,
            "dropout": 0.1,
        },
    },
}


def spec_of(name: str, diagnostics: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    chosen = NETWORKS[name]
    train = {"steps": 8, "seed": 4, **chosen.get("train", {})}
    cadence = {"evaluation": {"every_steps": 5}, "checkpoint": {"every_steps": 3}}
    return {"optimizer": {"kind": "adam"}, **chosen, **cadence, "train": train, "diagnostics": diagnostics, **parts}


def all_of(name: str) -> list[dict[str, Any]]:
    """Every diagnostic that the network can have, on few examples."""
    left_out = {"scale_invariance"} if name in ("lstm", "transformer") else set()
    asked: list[dict[str, Any]] = [
        {"kind": found.kind, "every_steps": 3} for found in kinds("diagnostics") if found.kind not in left_out
    ]
    options = {"weight_norms": {}, "hessian_top_eigenvalue": {"examples": 16, "iterations": 3}}
    return [{**one, **options.get(one["kind"], {"examples": 16})} for one in asked]


def recordings(*runs: Any) -> dict[str, bytes]:
    """The files of attempts, by name; a later one of the same name replaces an earlier one."""
    found = [(run.path, event) for run in runs for event in run.whole_events() if isinstance(event, FileSaved)]
    return {event.name: (path / event.file.file).read_bytes() for path, event in found}


def failures(run: Any) -> list[str]:
    return [event.message for event in run.events if isinstance(event, Note) and event.code == "diagnostic_failed"]


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
@pytest.mark.timeout(600)
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


KILLED = """
import os, signal, sys
from pathlib import Path
from bncore.recording import Recording
from bncore.train import run_attempt
written = Recording.to_bytes
def killed(self):
    if (self.kind, self.step) == (kind, int(step)):
        os.kill(os.getpid(), signal.SIGKILL)
    return written(self)
Recording.to_bytes = killed
for asked in sys.argv[1:]:
    path, kind, step = asked.split(":")
    child = os.fork()
    if child == 0:
        run_attempt(Path(path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, asked
"""
"""Each in the middle of a step's diagnostics: what one measured is lost, those before it are there."""


def test_killed_in_the_middle_of_a_diagnostic_it_ends_as_if_it_had_not_been(runs: Any, tmp_path: Path) -> None:
    spec = spec_of("mlp", all_of("mlp"))
    whole = runs.train(spec)
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    moments = (("covariate_shift", 6, 3), ("norm_health", 8, 6), ("weight_norms", 0, None))
    left = [runs.prepare(spec) for _ in moments]
    asked = [f"{run.path}:{kind}:{step}" for run, (kind, step, _) in zip(left, moments, strict=True)]
    subprocess.run([sys.executable, "-P", program, *asked], check=True)
    for killed, (_, _, saved) in zip(left, moments, strict=True):
        resumed = runs.train(spec, after=None if saved is None else killed, step=saved)
        if saved is not None:
            runs.assert_continued(whole, resumed, saved, before=killed)
        assert recordings(killed, resumed) == recordings(whole)


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


def test_a_run_that_ends_early_is_measured_where_it_ends(runs: Any) -> None:
    spec = spec_of("mlp", [], train={"steps": 40, "target": {"test_accuracy": 0.0, "stop": True}})
    assert list(recordings(runs.train(spec))) == ["norm_health-000000005.safetensors"]
    diverges = spec_of("mlp", [], optimizer={"kind": "sgd", "lr": 1e4}, train={"steps": 40})
    run = runs.train({**diverges, "network": {"kind": "mlp", "hidden": [12], "norm": {"kind": "batch_norm"}}})
    assert failures(run) == []
    assert len(recordings(run)) == 1


def test_without_normalizations_nothing_is_measured_by_itself(runs: Any) -> None:
    run = runs.train({"network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "none"}}, "train": {"steps": 3}})
    assert recordings(run) == {}
    assert not [key for key in run.series() if key.startswith("diagnostics/")]
