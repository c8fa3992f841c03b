"""SkipInit: one scalar, at first 0."""

import copy
import pickle

import pytest
import torch
from torch import nn

from bncore.norm.skip_init import SkipInit


def test_it_multiplies_by_its_scalar_in_every_order_of_derivative() -> None:
    layer = SkipInit(0.7, dtype=torch.float64)
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3).requires_grad_()
    torch.testing.assert_close(layer(x), 0.7 * x)
    assert torch.autograd.gradcheck(lambda x, weight: x * weight, (x, layer.weight))
    into_x, into_weight = torch.autograd.grad(layer(x).sin().sum(), (x, layer.weight), create_graph=True)
    torch.testing.assert_close(into_x, 0.7 * (0.7 * x).cos())
    torch.testing.assert_close(into_weight, (x * (0.7 * x).cos()).sum())
    (mixed,) = torch.autograd.grad(into_weight, x)
    torch.testing.assert_close(mixed, (0.7 * x).cos() - 0.7 * x * (0.7 * x).sin())


def test_a_network_of_64_blocks_is_the_identity_at_first_and_only_the_scalars_move_in_the_first_step() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        branches = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)) for _ in range(64))
        for weight in branches.parameters():
            (nn.init.kaiming_normal_ if weight.dim() == 2 else nn.init.zeros_)(weight)
        x, target = torch.randn(8, 16), torch.randn(8, 16)
    skips = nn.ModuleList(SkipInit() for _ in range(64))
    y = plain = x
    for branch, skip in zip(branches, skips, strict=True):
        y, plain = y + skip(branch(y)), plain + branch(plain)
    assert torch.equal(y, x)
    assert plain.std() > 1e3
    (y - target).square().mean().backward()
    assert all((value.grad == 0).all() for value in branches.parameters())
    slopes = torch.stack([value.grad for value in skips.parameters()])
    assert (slopes != 0).all()
    # Every branch sees the same activations and the same gradient: no slope grows or fades with depth.
    assert 0.5 < slopes[:32].norm() / slopes[32:].norm() < 2.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_type_and_layout_of_the_input_are_kept(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, 4, 4, dtype=dtype).to(memory_format=torch.channels_last)
    y = SkipInit(0.5)(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_state_copies_and_reset() -> None:
    layer = SkipInit(0.25)
    nn.init.constant_(layer.weight, 3.0)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.state_dict() == {"weight": torch.tensor(3.0)}
    on_meta = SkipInit(0.25, device="meta").to_empty(device="cpu")
    on_meta.reset_parameters()
    layer.reset_parameters()
    assert layer.weight == on_meta.weight == 0.25
    assert repr(layer) == "SkipInit(initial=0.25)"
    assert SkipInit().weight == 0


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_it_is_one_graph_and_an_ensemble_runs_as_one() -> None:
    layer, x = SkipInit(0.5), torch.ones(2, 3)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
    weights = {"weight": torch.tensor([1.0, 2.0])}
    y = torch.func.vmap(lambda state, x: torch.func.functional_call(layer, state, (x,)), (0, None))(weights, x)
    torch.testing.assert_close(y, torch.stack([x, 2 * x]))
