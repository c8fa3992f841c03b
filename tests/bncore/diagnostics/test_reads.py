"""How often a diagnostic waits for the device: as often for a deep network as for a shallow one."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore import diagnostics
from bncore.data import Examples
from bncore.data.load import load_data
from bncore.diagnostics._on_host import numbers, on_host
from bncore.networks import build_network
from bncore.norm import recalibrate
from bncore.spec import data_shape, load_spec
from bncore.spec.loss import CrossEntropySpec
from bncore.train.evaluate import evaluate, outputs_of
from bncore.train.task import build_task
from tests.bncore.diagnostics.reads import Reads
from tests.bncore.diagnostics.test_no_trace import ALL
from tests.network_specs import small_spec

NUMBER = "aten::_local_scalar_dense"
DEEPER = {
    "mlp": ("hidden", [[6] * 2, [6] * 5]),
    "cnn": ("channels", [[4], [4, 4, 4]]),
    "residual_mlp": ("blocks", [1, 3]),
    "lstm": ("hidden", [[4] * 2, [4] * 4]),
    "transformer_encoder": ("blocks", [1, 3]),
}
CASES = [
    ("mlp", "batch_norm"),
    ("mlp", "decorrelated_batch_norm"),
    ("cnn", "batch_renorm"),
    ("residual_mlp", "l1_batch_norm"),
    ("lstm", "layer_norm"),
    ("transformer_encoder", "layer_norm"),
]


def networks(kind: str, norm: str) -> tuple[list[nn.Module], Examples]:
    """A shallow and a deep one, and a batch."""
    field, depths = DEEPER[kind]
    found = []
    for depth in depths:
        spec = small_spec(kind, norm)
        spec["network"][field] = depth
        parsed = load_spec(spec)
        shape = data_shape(parsed.data)
        network = build_network(parsed.network, shape.signal, shape.outputs)
        batch = load_data(parsed.data).train.slice(0, 12)
        outputs_of(network, batch)
        found.append(network)
    return found, batch


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_a_diagnostic_reads_as_often_whatever_the_depth(kind: str, norm: str) -> None:
    found, batch = networks(kind, norm)
    for name, measure in ALL.items():
        if name == "scale_invariance" and kind in ("lstm", "transformer_encoder"):
            continue
        counts = []
        for network in found:
            with Reads() as reads:
                how: dict[str, Any] = {"lengths": batch.lengths}
                if name == "norm_health":
                    how["earlier"] = diagnostics.running_statistics(network)
                measure(network, batch.inputs, batch.targets, **how)
            counts.append(reads.counts)
        assert counts[0] == counts[1], name
        assert counts[0].total() > 0, name


def test_however_many_distances_are_looked_at_they_are_read_together() -> None:
    (network, _), batch = networks("mlp", "batch_norm")
    counts = []
    for distances in ((0.1,), (0.1, 0.2, 0.3)):
        with Reads() as reads:
            diagnostics.loss_landscape(network, batch.inputs, batch.targets, lr=0.1, steps=distances)
            diagnostics.step_probe(network, batch.inputs, batch.targets, distances=distances)
        counts.append(reads.counts)
    assert counts[0] == counts[1]
    assert set(counts[0]) == {"cpu"}


def test_power_iteration_reads_twice_an_iteration() -> None:
    (network, _), batch = networks("mlp", "batch_norm")
    counts = []
    for iterations in (1, 4):
        with Reads() as reads:
            diagnostics.hessian_top_eigenvalue(
                network, batch.inputs, batch.targets, iterations=iterations, tolerance=0.0
            )
        counts.append(reads.counts)
    assert counts[1] - counts[0] == Counter({"cpu": 3, NUMBER: 3})


@pytest.mark.parametrize("kind", ["mlp", "cnn", "residual_mlp"])
def test_recalibration_reads_once(kind: str) -> None:
    found, batch = networks(kind, "batch_norm")
    for network in found:
        with Reads() as reads:
            recalibrate(network, [batch, batch], forward=outputs_of)
        assert reads.counts == {"tolist": 1}


def test_an_evaluation_reads_once_however_many_batches_there_are() -> None:
    (network, _), batch = networks("mlp", "batch_norm")
    task = build_task("classification", CrossEntropySpec())
    with Reads() as reads:
        evaluate(network, task, [batch] * 3)
    assert reads.counts == {"tolist": 1}


def test_values_come_to_the_host_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    given = [
        torch.tensor([True, False, True]),
        wide.t(),
        torch.tensor(2**62 + 1),
        wide.float()[:, ::2],
        wide.half(),
        torch.tensor([float("nan"), -0.0, float("inf")], dtype=torch.bfloat16),
        torch.empty(0, 3),
        nn.Parameter(wide[0]),
        wide[1] + 1j * wide[2],
    ]
    found = on_host(given)
    for one, brought in zip(given, found, strict=True):
        assert (brought.dtype, brought.shape, brought.requires_grad) == (one.dtype, one.shape, False)
        assert _bits(brought) == _bits(one)
    assert on_host([]) == []
    assert numbers([wide[0, 0], wide.float()[1, 1]]) == [float(wide[0, 0]), float(wide.float()[1, 1])]


def _bits(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).tolist())


def test_what_would_be_read_one_by_one_is_counted_so() -> None:
    """The counter counts."""
    values = torch.arange(4.0)
    with Reads() as reads:
        assert [float(one) for one in values] == [0.0, 1.0, 2.0, 3.0]
        assert bool((values > 2).any())
        values[values > 1].sum().item()
        assert sum(one.item() for one in values.cpu()) == 6.0
        with pytest.raises(AssertionError, match="host and device"):
            values + torch.ones(4)
    assert reads.counts == {NUMBER: 6, "aten::index": 1, "cpu": 1}
