"""Batch norm over several processes equals batch norm of the whole batch in one, whatever share of it each process has.

The processes run once for all tests (`sync_ranks.py`); expectations are written in primitive operations.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.batch_norm import BatchNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from tests.bncore.norm.case import affine, batch_axes, batch_norm_statistics, sample, standardized
from tests.bncore.norm.sync_ranks import (
    OPTIONS,
    SPLITS,
    Found,
    batch,
    layer_of,
    network_of,
    objective,
    plain_network,
    second_objective,
)

Ranks = dict[int, list[dict[str, Found]]]
SEVERAL = [world for world in SPLITS if world > 1]
EVERY_SPLIT = [(world, split) for world, splits in SPLITS.items() for split in splits]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """What every process computed, by the size of its group and its place in it."""
    directory = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.bncore.norm.sync_ranks", str(directory)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return {world: [torch.load(directory / f"{world}-{rank}.pt") for rank in range(world)] for world in SPLITS}


def whole(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, batch_axes(x), layer.eps))


def close(actual: Tensor, expected: Tensor, what: str = "") -> None:
    assert actual.shape == expected.shape, what
    assert (actual - expected).abs().max() <= 1e-10 * expected.abs().max().clamp_min(1.0), what


def in_one_process(split: str, examples: int, options: dict[str, object]) -> Found:
    """What `sync_ranks.derivatives` has to find."""
    layer, statistics = layer_of(options), []
    for seed in (2, 1):
        statistics.append(batch_norm_statistics(layer, batch(split, examples, seed)))
        layer.load_state_dict(layer.state_dict() | statistics[-1])
    x = batch(split, examples).requires_grad_()
    inputs = [x, *layer.parameters()]
    y = whole(layer, x)
    first = torch.autograd.grad(objective(y, sample(tuple(x.shape), seed=3)), inputs, create_graph=True)
    second = torch.autograd.grad(second_objective(first), inputs, allow_unused=True, materialize_grads=True)
    found = {"y": y, **statistics[-1]}
    for order, tensors in (("plain", first), ("first", first), ("second", second)):
        found |= {f"{order}.{name}": tensor for name, tensor in zip(("x", "weight", "bias"), tensors, strict=False)}
    return {name: tensor.detach() for name, tensor in found.items()}


def put_together(name: str, parts: list[Tensor]) -> Tensor:
    """The whole batch from the processes' shares, the gradient of a parameter from their sums, a statistic from any."""
    if name == "y" or name.endswith(".x"):
        return torch.cat(parts)
    if "." in name:
        return torch.stack(parts).sum(0)
    assert all(torch.equal(part, parts[0]) for part in parts), f"{name} is not the same everywhere"
    return parts[0]


@pytest.mark.parametrize(("world", "split"), EVERY_SPLIT)
def test_outputs_derivatives_and_statistics_are_those_of_the_whole_batch(ranks: Ranks, world: int, split: str) -> None:
    parts = [rank[split] for rank in ranks[world]]
    for name, expected in in_one_process(split, sum(SPLITS[world][split]), {}).items():
        close(put_together(name, [part[name] for part in parts]), expected, name)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("world", SEVERAL)
def test_so_they_are_with_an_average_over_all_batches_and_without_parameters(
    ranks: Ranks, world: int, name: str
) -> None:
    parts = [rank[name] for rank in ranks[world]]
    for key, expected in in_one_process("uneven", sum(SPLITS[world]["uneven"]), OPTIONS[name]).items():
        close(put_together(key, [part[key] for part in parts]), expected, key)


@pytest.mark.parametrize("how", ["at once", "reentrant", "not reentrant"])
@pytest.mark.parametrize("world", SEVERAL)
def test_two_forward_passes_before_a_backward_pass_and_recomputed_ones(ranks: Ranks, world: int, how: str) -> None:
    for rank in ranks[world]:
        for name, expected in rank["one by one"].items():
            close(rank[how][name], expected, name)


@pytest.mark.parametrize("world", SEVERAL)
def test_a_nan_in_one_process_does_not_stay_in_any(ranks: Ranks, world: int) -> None:
    first, *others = [rank["spoilt"] for rank in ranks[world]]
    layer = layer_of({"nan_guard": True})
    once = batch_norm_statistics(layer, torch.cat([batch("", 3, seed=rank) for rank in range(world)]))
    close(first["running_mean"][1], once["running_mean"][1])
    assert all(value.isfinite().all() for value in first.values())
    assert all(torch.equal(other[name], value) for other in others for name, value in first.items())


@pytest.mark.parametrize("world", SEVERAL)
def test_one_value_over_all_processes_is_refused_by_all_and_none_passes(ranks: Ranks, world: int) -> None:
    for rank in ranks[world]:
        refused, unchanged, moved, went_on = rank["too_few"]["refused"]
        assert refused
        assert unchanged
        assert not moved
        assert went_on


@pytest.mark.parametrize("world", SEVERAL)
def test_half_precision_and_channels_last_are_kept(ranks: Ranks, world: int) -> None:
    parts = [rank["narrow"] for rank in ranks[world]]
    layer = layer_of()
    x = batch("", sum(SPLITS[world]["uneven"])).bfloat16().double().requires_grad_()
    statistics = batch_norm_statistics(layer, x.detach())
    y = whole(layer, x)
    y.sin().sum().backward()
    assert all(part["kept"] for part in parts)
    assert all(part["y"].dtype == part["x"].dtype == torch.bfloat16 for part in parts)
    # Gradients are of an output that has been rounded, and what comes in is rounded, too.
    for name, expected, tolerance in (("y", y, 2**-7), ("x", x.grad, 2**-6)):
        actual = torch.cat([part[name] for part in parts]).double()
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    into_weight = torch.stack([part["weight"] for part in parts]).sum(0)
    torch.testing.assert_close(into_weight.double(), layer.weight.grad, rtol=2**-6, atol=2**-4)
    for name, expected in statistics.items():
        torch.testing.assert_close(parts[0][name].double(), expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("world", SEVERAL)
def test_a_large_mean_costs_no_more_digits_than_in_torch(ranks: Ranks, world: int) -> None:
    x = (batch("", 32 * world) + 1.7e6).float()
    layer, theirs = layer_of(), nn.BatchNorm2d(4).double()
    theirs.load_state_dict(layer.state_dict())
    expected = whole(layer, x.double())
    unavoidable = (theirs.float()(x).double() - expected).abs().max()
    actual = torch.cat([rank["far_from_zero"]["y"] for rank in ranks[world]])
    assert (actual.double() - expected).abs().max() <= 2 * unavoidable


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("world", SEVERAL)
def test_function_transforms_reach_through_the_processes(ranks: Ranks, world: int) -> None:
    parts = [rank["transformed"] for rank in ranks[world]]
    layer, x = layer_of(), batch("one value", sum(SPLITS[world]["uneven"]))
    direction = sample(tuple(x.shape), seed=4)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = whole(layer, x + t * direction).sin().sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
    close(torch.stack([part["third"] for part in parts]).sum(0), value.detach())
    _, slope = torch.func.jvp(lambda t: whole(layer, x + t * direction), (t.detach(),), (torch.ones_like(t),))
    close(torch.cat([part["slope"] for part in parts]), slope.detach())
    members = torch.stack((whole(layer, x), whole(layer, 3 * x))).detach()
    close(torch.cat([part["ensemble"] for part in parts], dim=1), members)
    running = [batch_norm_statistics(layer, scale * x)["running_var"] for scale in (1, 3)]
    for part in parts:
        close(part["running_var"], torch.stack(running))


@pytest.mark.parametrize("how", ["parallel", "compiled"])
def test_networks_in_data_parallel_and_compiled_get_the_gradients_of_the_whole_batch(ranks: Ranks, how: str) -> None:
    network = network_of()
    plain = nn.Sequential(nn.Linear(3, 4), BatchNorm(4), nn.Tanh(), nn.Linear(4, 2), BatchNorm(2)).double()
    plain.load_state_dict(network.state_dict())
    for seed in (1, 2) if how == "parallel" else (1,):
        plain(sample((8, 3), seed)).sin().sum().backward()
    parts = [rank[how] for rank in ranks[2]]
    for name, parameter in plain.named_parameters():
        # Data-parallel training has added up already.
        actual = parts[0][name] if how == "parallel" else parts[0][name] + parts[1][name]
        close(actual, parameter.grad, name)
    for name, buffer in plain.named_buffers():
        close(parts[1][name], buffer, name)


def test_plain_batch_norm_in_data_parallel_takes_two_forward_passes_before_a_backward_pass(ranks: Ranks) -> None:
    gradients = []
    for rank in range(2):
        network = plain_network()
        sum(network(sample((4, 3), seed)).sin().sum() for seed in (rank, 10 + rank)).backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for part in ranks[2]:
        for name, value in part["plain_parallel"].items():
            close(value, (gradients[0][name] + gradients[1][name]) / 2, name)


def test_a_group_of_some_processes_leaves_the_others_alone(ranks: Ranks) -> None:
    parts = [rank["in_part"] for rank in ranks[3]]
    layer, batches = layer_of(), [batch("", 3, seed=rank) for rank in range(3)]
    together = whole(layer, torch.cat((batches[0], batches[2])))
    for part, expected in zip(parts, (together[:3], whole(layer, batches[1]), together[3:]), strict=True):
        close(part["y"], expected.detach())
        close(part["copy"], expected.detach())


@pytest.mark.parametrize("world", SEVERAL)
def test_evaluation_waits_for_nobody(ranks: Ranks, world: int) -> None:
    close(ranks[world][0]["evaluated_alone"]["y"], layer_of().eval()(batch("", 3)).detach())


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"nan_guard": True}], ids=str)
def test_without_other_processes_fifty_steps_equal_torch(options: dict[str, object]) -> None:
    mine = SyncBatchNorm(5, **options)
    theirs = nn.BatchNorm2d(5, **{name: value for name, value in options.items() if name != "nan_guard"})
    for step in range(50):
        data = sample((7, 5, 3, 3), seed=step).float()
        x, other = data.clone().requires_grad_(), data.clone().requires_grad_()
        y, expected = mine(x), theirs(other)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-6)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_exported_in_training_it_is_refused(ranks: Ranks) -> None:
    assert all(rank["exported"]["refused"] for rank in ranks[2])
