"""Accuracies by statistics at the end of a run: on how many examples, on which, and what a plain model has there."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bncore.data import load_data
from bncore.networks import build_network
from bncore.recording import Recording, from_bytes
from bncore.seeds import derive_seed
from bncore.spec import DigitsSpec, load_spec
from tests.bncore.train.diagnosed import recordings

NETWORK = {"kind": "mlp", "hidden": [24], "activation": "sigmoid", "norm": {"kind": "batch_norm", "momentum": 0.003}}
SEED, BATCH, TESTS = 5, 60, 597


def spec_of(steps: int, *diagnostics: dict[str, Any]) -> dict[str, Any]:
    return {
        "network": NETWORK,
        "optimizer": {"kind": "sgd", "lr": 0.3},
        "train": {"steps": steps, "seed": SEED, "batch_size": BATCH},
        "evaluation": {"every_steps": 100},
        "checkpoint": {"every_steps": 140},
        "diagnostics": list(diagnostics),
    }


def final(run: Any) -> Recording:
    *_, newest = sorted(recordings(run))
    return from_bytes(recordings(run)[newest])


def drawn(size: int, count: int, *words: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive_seed(SEED, *words))
    return torch.randperm(size, generator=generator)[:count]


def test_on_a_part_they_are_what_a_plain_model_has_on_that_part(runs: Any) -> None:
    run = runs.train(spec_of(280))
    # One example for 16 that were trained on, less those for precise statistics, with each of three kinds.
    precise = max(280 * BATCH // 96, 256)
    count = (280 * BATCH // 16 - precise) // 3
    found = final(run)
    assert (found.scalars["examples_accuracy"], found.scalars["examples_precise"]) == (count, precise)
    data = load_data(DigitsSpec())
    chosen = drawn(TESTS, count, "diagnostics", "test")
    x, labels = data.test.inputs[chosen].double(), data.test.targets[chosen]
    assert set(labels.tolist()) == set(range(10))
    model = build_network(load_spec(spec_of(280)).network, (1, 8, 8), 10, seed=99)
    model.load_state_dict(load_file(run.path / run.checkpoints("last")[-1].weights.file))
    model.double()

    def accuracy() -> float:
        return (model(x).argmax(1) == labels).double().mean().item()

    with torch.no_grad():
        expected = {"running": (model.eval(), accuracy())[1]}
        before = {key: value.clone() for key, value in model.norm1.state_dict().items()}
        expected["batch"] = (model.train(), accuracy())[1]
        model.norm1.load_state_dict(before)
        values = model.linear1(data.train.inputs[drawn(1200, precise, "diagnostics")].flatten(1).double())
        model.norm1.running_mean.copy_(values.mean(0))
        model.norm1.running_var.copy_(values.var(0))
        expected["precise"] = (model.eval(), accuracy())[1]
    assert len(set(expected.values())) > 1
    assert {name: found.scalars[f"accuracy_{name}"] for name in expected} == pytest.approx(expected)
    (note,) = found.notes
    assert f"are of {count} of the 597 test examples" in note
    # The same where it was set back in between.
    resumed = runs.train(spec_of(280), after=run, step=140)
    assert recordings(resumed) == recordings(run)


def test_whoever_asks_for_all_of_it_gets_it_of_all_examples(runs: Any) -> None:
    steps = 12
    run, asked = runs.train(spec_of(steps)), runs.train(spec_of(steps, {"kind": "norm_health", "full": True}))
    brief, whole = final(run), final(asked)
    assert whole.notes == ()
    assert whole.scalars["accuracy_running"] == asked.events[-1].summary.test_accuracy
    assert (whole.scalars["examples_accuracy"], whole.scalars["examples_precise"]) == (TESTS, 256)
    assert np.isfinite(whole.arrays["gap"]).all()
    assert not [name for name in brief.scalars if name.startswith(("accuracy", "examples"))]
    assert np.isnan(brief.arrays["gap"]).all()
    assert [note.partition(":")[0].rpartition(" ")[2] for note in brief.notes] == ["measured"] * 2
    assert brief.arrays["updates"].tolist() == whole.arrays["updates"].tolist() == [steps]
    # Whichever: training is the same.
    one, other = (load_file(each.path / each.checkpoints("last")[-1].weights.file) for each in (run, asked))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_of_usual_length_has_them_of_all_examples_too(runs: Any) -> None:
    run = runs.train(spec_of(400))
    found = final(run)
    assert found.notes == ()
    assert found.scalars["examples_accuracy"] == TESTS
    assert found.scalars["accuracy_running"] == run.events[-1].summary.test_accuracy
