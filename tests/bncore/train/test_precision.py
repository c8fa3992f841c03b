"""fp16 with its scale, and images with their channels innermost. Without a GPU, torch's CPU kernels stand in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from bncore.data import Batches, load_data
from bncore.networks import build_network
from bncore.spec import SpecError, load_spec, plan
from bncore.train.checkpoint import HostState
from bncore.train.environment import Environment
from bncore.train.progress import Progress
from bncore.train.solo import Solo

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FP16 = {
    "network": {"kind": "mlp", "hidden": [24], "norm": {"kind": "layer_norm"}},
    "optimizer": {"kind": "adam"},
    "train": {"steps": 12, "precision": "fp16", "clip_grad_norm": 1.0},
    "resources": {"device": "cuda"},
}


def learner(document: dict[str, Any] = FP16) -> Solo:
    spec = load_spec(document)
    return Solo(spec, plan(spec), DEVICE, load_data(spec.data))


def written(solo: Solo, folder: Path, step: int) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    weights, state = folder / f"{step}.safetensors", folder / f"{step}.state.safetensors"
    environment = Environment(device=DEVICE.type, device_model="", torch_version="", threads=1)
    solo.write_weights(weights, step)
    solo.write_state(state, HostState(progress=Progress(step=step), environment=environment))
    return weights, state


def test_fp16_goes_on_with_the_bits_and_the_scale_it_had(tmp_path: Path) -> None:
    whole = learner()
    losses = [whole.take_step(step).loss.item() for step in range(1, 6)]
    saved = written(whole, tmp_path, 5)
    losses += [whole.take_step(step).loss.item() for step in range(6, 13)]
    assert losses[-1] < losses[0]
    resumed = learner()
    assert resumed.restore(*saved).progress.step == 5
    assert [resumed.take_step(step).loss.item() for step in range(6, 13)] == losses[5:]
    first, second = (written(one, folder, 12) for one, folder in ((whole, tmp_path), (resumed, tmp_path / "again")))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_fp16_steps_are_those_of_a_loop_in_plain_torch() -> None:
    spec = load_spec(FP16)
    network = build_network(spec.network, (1, 8, 8), 10, seed=0, device=DEVICE)
    optimizer, scaler = torch.optim.Adam(network.parameters(), lr=1e-3), torch.amp.GradScaler(DEVICE.type)
    batches = Batches(load_data(spec.data).to(DEVICE).train, 60, 0)
    solo = learner()
    for step in range(1, 13):
        inputs, labels, *_ = batches.batch(step)
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, torch.float16):
            outputs = network(inputs)
        loss = nn.functional.cross_entropy(outputs.float(), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert solo.take_step(step).loss.item() == pytest.approx(loss.item(), rel=1e-4)


def test_a_step_whose_gradients_overflow_changes_no_weight_and_halves_the_scale(tmp_path: Path) -> None:
    solo = learner({**FP16, "loss": {"label_smoothing": 0.0}, "train": {"steps": 12, "precision": "fp16"}})
    weights, state = written(solo, tmp_path, 0)
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(state), "scaler/scale": torch.tensor(2.0**60, dtype=torch.float64)}, state, metadata)
    solo.restore(weights, state)
    solo.take_step(1)
    again, after = written(solo, tmp_path, 1)
    assert load_file(after)["scaler/scale"] == 2.0**59
    before, now = load_file(weights), load_file(again)
    assert all(torch.equal(before[key], now[key]) for key in before)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_fp16_elsewhere_than_on_a_gpu_is_refused(device: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({**FP16, "resources": {"device": device}})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [
        ("/train/precision", "precision_needs_cuda")
    ]


def test_steps_that_would_be_compiled_anew_for_each_batch_are_refused() -> None:
    network = {"kind": "gru", "hidden": [6], "norm": {"kind": "none"}}
    with pytest.raises(SpecError) as refused:
        load_spec({"data": {"kind": "variable_length"}, "network": network, "resources": {"compile": True}})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/resources/compile", "compiled_anew")]


def test_channels_last_is_another_layout_of_the_same_numbers(runs: Any) -> None:
    # Among equal values, which there are many of at the edges, max pooling takes another one.
    network = {"kind": "cnn", "channels": [4, 6], "pool": "average"}
    spec = {"network": network, "train": {"steps": 20}, "evaluation": {"every_steps": 5}}
    plain, other = (runs.train({**spec, "resources": {"channels_last": last}}) for last in (False, True))
    expected, actual = (run.tensors(run.checkpoints("last")[-1]) for run in (plain, other))
    for key in expected:
        if key != "rng/cpu":
            assert torch.allclose(expected[key], actual[key], rtol=1e-3, atol=1e-5), key
    series = other.series()
    assert series["train/loss"] == pytest.approx(plain.series()["train/loss"], rel=1e-4)
