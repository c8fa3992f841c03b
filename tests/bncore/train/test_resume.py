"""A run resumed from any checkpoint ends bit-identical to one never disturbed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bncore.train.checkpoint import METADATA_KEY

SPECS: dict[str, dict[str, Any]] = {
    "mlp with dropout, sgd with momentum": {
        "network": {"kind": "mlp", "hidden": [24, 24], "dropout": 0.2, "activation": "sigmoid"},
        "optimizer": {"kind": "sgd", "lr": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        "schedule": {"kind": "cosine", "warmup_steps": 10},
    },
    "cnn, adam": {
        "network": {"kind": "cnn", "channels": [4, 6], "normalize_input": True},
        "optimizer": {"kind": "adam"},
    },
    "mlp with batch renorm, adamw, bf16, clipped": {
        "network": {
            "kind": "mlp",
            "hidden": [24, 24],
            "norm": {"kind": "batch_renorm", "warmup_steps": 40},
            "dropout": 0.1,
        },
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "step", "step_size": 17, "gamma": 0.5},
        "train": {"precision": "bf16", "clip_grad_norm": 0.5},
    },
    "cnn with spectral norm, clipped by unit": {
        "network": {"kind": "cnn", "channels": [4, 6], "norm": {"kind": "spectral_norm"}},
        "optimizer": {"kind": "sgd", "lr": 0.3, "momentum": 0.9},
        "train": {"adaptive_clipping": 0.02},
    },
    "cnn, channels last, in micro-batches, with an average": {
        "network": {"kind": "cnn", "channels": [4, 6]},
        "optimizer": {"kind": "adam"},
        "train": {"accumulate": 2, "ema": {}},
        "resources": {"channels_last": True},
    },
    "mlp, centered rmsprop, warm restarts": {
        "network": {"kind": "mlp", "hidden": [24]},
        "optimizer": {
            "kind": "rmsprop",
            "momentum": 0.9,
            "centered": True,
            "lr": 0.001,
            "weight_decay": 0.01,
            "exempt_norms": True,
        },
        "schedule": {"kind": "warm_restarts", "period": 10, "period_factor": 2, "warmup_steps": 3},
    },
    "cnn, adagrad, one cycle": {
        "network": {"kind": "cnn", "channels": [4, 6]},
        "optimizer": {"kind": "adagrad", "weight_decay": 0.01},
        "schedule": {"kind": "one_cycle"},
    },
    "mlp, lamb": {"network": {"kind": "mlp", "hidden": [24]}, "optimizer": {"kind": "lamb", "lr": 0.02}},
    "cnn, lars": {
        "network": {"kind": "cnn", "channels": [4, 6]},
        "optimizer": {"kind": "lars", "weight_decay": 0.01, "exempt_norms": True},
    },
    "mlp with dropout, in micro-batches, with an average of its weights": {
        "network": {"kind": "mlp", "hidden": [24], "dropout": 0.2},
        "optimizer": {"kind": "sgd", "lr": 0.2, "momentum": 0.9},
        "train": {"batch_size": 70, "accumulate": 3, "ema": {"decay": 0.9}},
    },
    "mlp with layer norm, plain sgd, uneven batches": {
        "network": {"kind": "mlp", "hidden": [24], "norm": {"kind": "layer_norm"}},
        "optimizer": {"kind": "sgd"},
        "train": {"batch_size": 70},
    },
}


def full(name: str) -> dict[str, Any]:
    spec = SPECS[name]
    return {
        "evaluation": {"every_steps": 20},
        "checkpoint": {"every_steps": 11},
        **spec,
        "train": {"steps": 75, "seed": 4, **spec.get("train", {})},
    }


@pytest.mark.parametrize("name", SPECS)
def test_from_any_step_the_end_is_bit_identical(runs: Any, name: str) -> None:
    spec = full(name)
    whole = runs.train(spec)
    assert whole.events[-1].kind == "finished"
    for step in (11, 22, 44, 66):
        resumed = runs.train(spec, after=whole, step=step)
        runs.assert_continued(whole, resumed, step)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("norm", ["batch_renorm", "layer_norm"])
def test_so_it_is_with_compiled_steps(runs: Any, norm: str) -> None:
    network = {"kind": "mlp", "hidden": [24], "dropout": 0.2, "norm": {"kind": norm}}
    spec = {**full("mlp with layer norm, plain sgd, uneven batches"), "network": network}
    whole = runs.train({**spec, "resources": {"compile": True}})
    torch.compiler.reset()
    runs.assert_continued(whole, runs.train({**spec, "resources": {"compile": True}}, after=whole, step=44), 44)


def test_a_run_resumed_at_its_very_end_only_says_so(runs: Any) -> None:
    spec = full("cnn, adam")
    whole = runs.train(spec)
    resumed = runs.train(spec, after=whole, step=75)
    kinds = [event.kind for event in resumed.events]
    assert kinds == ["phase", "phase", "phase", "started", "finished"]
    kept, again = (run.events[-1].summary.model_dump(exclude={"seconds"}) for run in (whole, resumed))
    assert kept == again


def test_a_run_resumed_twice_is_still_the_same(runs: Any) -> None:
    spec = full("mlp with dropout, sgd with momentum")
    whole = runs.train(spec)
    once = runs.train(spec, after=whole, step=22)
    twice = runs.train(spec, after=once, step=55)
    runs.assert_continued(whole, twice, 55)


def test_seconds_are_carried_over(runs: Any) -> None:
    spec = full("cnn, adam")
    whole = runs.train(spec)
    resumed = runs.train(spec, after=whole, step=66)
    with safe_open(whole.path / "checkpoints/last-000000066.state.safetensors", framework="pt") as file:
        before = json.loads(file.metadata()[METADATA_KEY])["progress"]["seconds"]
    assert 0 < before < resumed.events[-1].summary.seconds


def test_another_environment_is_noted(runs: Any) -> None:
    spec = full("cnn, adam")
    whole = runs.train(spec)
    resumed = runs.train({**spec, "resources": {"threads": 2}}, after=whole, step=66)
    (note,) = (event for event in resumed.events if event.kind == "note")
    assert note.code == "not_bit_exact"
    assert "threads 1 -> 2" in note.message


def test_other_instructions_of_the_same_processor_are_noted(runs: Any) -> None:
    spec = full("cnn, adam")
    resumed = runs.prepare(spec, after=runs.train(spec), step=66)
    # Read once a process, when torch is loaded.
    limited = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run([sys.executable, "-P", "-m", "bncore", str(resumed.path)], env=limited, check=True)
    (note,) = (event for event in resumed.events if event.kind == "note")
    assert note.code == "not_bit_exact"
    assert "instruction_limits none -> ATEN_CPU_CAPABILITY=default" in note.message
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        assert f"cpu_capability {torch.backends.cpu.get_cpu_capability()} -> DEFAULT" in note.message


def test_a_checkpoint_from_before_they_were_recorded_raises_no_doubt(runs: Any) -> None:
    spec = full("cnn, adam")
    whole = runs.train(spec)
    resumed = runs.prepare(spec, after=whole, step=66)
    path = resumed.path / "restore" / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()[METADATA_KEY])
    before = {"device", "device_model", "torch_version", "threads", "memory_format"}
    state["environment"] = {key: value for key, value in state["environment"].items() if key in before}
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(state)})
    runs.attempt(resumed)
    assert not [event for event in resumed.events if event.kind == "note"]
    runs.assert_continued(whole, resumed, 66)


def test_a_checkpoint_from_before_metrics_were_named_is_gone_on_from(runs: Any) -> None:
    spec = full("cnn, adam")
    whole = runs.train(spec)
    resumed = runs.prepare(spec, after=whole, step=66)
    path = resumed.path / "restore" / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()[METADATA_KEY])
    progress = state["progress"]
    measured = progress.pop("evaluation")
    del progress["best"]
    values = {name.removeprefix("test/"): value for name, value in measured["values"].items()}
    progress["evaluation"] = {"step": measured["step"], **values}
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(state)})
    runs.attempt(resumed)
    runs.assert_continued(whole, resumed, 66)


def test_a_checkpoint_of_another_network_fails_the_run_with_one_line(runs: Any) -> None:
    whole = runs.train(full("cnn, adam"))
    failed = runs.train(full("mlp with layer norm, plain sgd, uneven batches"), after=whole, step=66).events[-1]
    assert failed.kind == "failed"
    assert failed.code == "trainer_error"
    assert "the weights do not fit the network" in failed.message
    assert "\n" not in failed.message


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_process_that_trained_can_export_and_then_trains_to_the_same_bits(runs: Any) -> None:
    """`torch.export` turns kernels off for a while; if it fails on the way, other kernels compute the next run."""
    spec = {"network": {"kind": "cnn", "channels": [4]}, "train": {"steps": 20}}
    first = runs.train(spec)
    torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    assert first.checkpoints("last")[-1].weights.sha256 == runs.train(spec).checkpoints("last")[-1].weights.sha256
