"""Layer and group norm are torch's where torch has them, and one another's special cases."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from bncore.norm.group_norm import GroupNorm
from bncore.norm.instance_norm import InstanceNorm
from bncore.norm.layer_norm import LayerNorm
from bncore.recurrent import LayerNormGRU, LayerNormLSTM
from tests.bncore.norm.case import sample

SHAPES = [(6, 4), (6, 4, 5), (6, 4, 3, 2), (2, 4, 3, 2, 2)]


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])]


def moved(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2.0, layer.weight.numel()).view_as(layer.weight))
        layer.bias.copy_(torch.linspace(-1.0, 1.0, layer.bias.numel()).view_as(layer.bias))
    return layer


def same(first: nn.Module, second: nn.Module, x: Tensor) -> None:
    for mine, theirs in zip(run(moved(first), x), run(moved(second), x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norm_is_that_of_torch(shape: tuple[int, ...]) -> None:
    mine, theirs = GroupNorm(4, num_groups=2), nn.GroupNorm(2, 4)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    same(mine, theirs, sample(shape).float())


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_group_norm_with_a_channel_a_group_is_instance_norm(shape: tuple[int, ...]) -> None:
    same(GroupNorm(4, num_groups=4), InstanceNorm(4), sample(shape).float())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norm_with_one_group_is_layer_norm(shape: tuple[int, ...]) -> None:
    same(GroupNorm(4, num_groups=1), LayerNorm(4), sample(shape).float())


def test_layer_norm_is_that_of_torch_on_vectors_and_its_group_norm_on_images() -> None:
    vectors, images = sample((6, 4)).float(), sample((6, 4, 3, 3)).float()
    torch.testing.assert_close(LayerNorm(4)(vectors), nn.LayerNorm(4)(vectors), rtol=0, atol=0)
    torch.testing.assert_close(LayerNorm(4)(images), nn.GroupNorm(1, 4)(images), rtol=0, atol=0)
    same(LayerNorm(4), nn.LayerNorm(4), vectors)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 groups do not divide 4 channels"):
        GroupNorm(4, num_groups=3)
    for groups in (0, -2):
        with pytest.raises(ValueError, match=f"{groups} groups do not divide 4 channels"):
            GroupNorm(4, num_groups=groups)
    with pytest.raises(ValueError, match="eps must be at least 0"):
        GroupNorm(4, num_groups=2, eps=-1e-5)


@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize(("make", "channels"), [(lambda: GroupNorm(4, num_groups=4), 4), (lambda: LayerNorm(1), 1)])
def test_what_would_be_erased_is_refused_whatever_the_batch(
    make: Callable[[], nn.Module], channels: int, transformed: bool
) -> None:
    layer = make()

    def call(x: Tensor) -> Tensor:
        return torch.func.vmap(layer)(x.unsqueeze(0)).squeeze(0) if transformed else layer(x)

    for shape in ((1, channels), (3, channels), (3, channels, 1, 1)):
        with pytest.raises(ValueError, match="Expected more than 1 value per"):
            call(torch.ones(shape))
    assert call(sample((1, channels, 2)).float()).isfinite().all()
    with pytest.raises(ValueError, match="Expected more than 1 value per group"):
        GroupNorm(32)(torch.ones(5, 32))
    for cell in (LayerNormLSTM, LayerNormGRU):
        with pytest.raises(ValueError, match="hidden_size must be at least 2"):
            cell(4, 1)


@pytest.mark.parametrize("make", [lambda: LayerNorm(4), lambda: GroupNorm(4, num_groups=2)], ids=["layer", "group"])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 2)], ids=str)
def test_half_precision_input_is_rounded_once_at_the_end(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    layer, x = moved(make()), sample(shape).bfloat16()
    assert torch.equal(layer(x), layer(x.float()).bfloat16())


@pytest.mark.parametrize("make", [lambda: LayerNorm(4), lambda: GroupNorm(4, num_groups=2)], ids=["layer", "group"])
def test_second_derivatives_in_the_last_layout_are_those_in_the_first(make: type[nn.Module]) -> None:
    layer, x = moved(make()).double(), sample((3, 4, 5, 2))
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        one = x.clone(memory_format=memory_format).requires_grad_()
        (first,) = torch.autograd.grad(layer(one).sin().sum(), one, create_graph=True)
        found += torch.autograd.grad(first.cos().sum(), one)
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: LayerNorm(8), lambda: GroupNorm(8, num_groups=4)], ids=["layer", "group"])
@pytest.mark.parametrize("shape", [(8, 8, 12, 12), (4, 8, 3, 4, 5)], ids=["images", "volumes"])
def test_a_large_mean_costs_no_digits_in_channels_last(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    spread, upstream = torch.randn(shape), torch.randn(shape)
    for ratio in (0.0, 3.0, 30.0, 1e3, 1e4):
        x = (spread + ratio).to(memory_format=memory_format)
        # One sample alone has the large mean.
        x[1:] -= ratio
        exact = x.double().requires_grad_()
        x.requires_grad_()
        layer = make()
        y, expected = layer(x), make().double()(exact.contiguous())
        assert y.is_contiguous(memory_format=memory_format)
        assert (y.double() - expected).abs().max() <= 2e-5
        (into_x,) = torch.autograd.grad(y, x, upstream)
        (into_exact,) = torch.autograd.grad(expected, exact, upstream.double())
        assert (into_x.double() - into_exact).abs().max() <= 2e-5
        if ratio < 4.0:
            groups = 1 if isinstance(layer, LayerNorm) else 4
            assert torch.equal(y, torch.nn.functional.group_norm(x, groups, layer.weight, layer.bias))


@pytest.mark.parametrize("make", [lambda: LayerNorm(4), lambda: GroupNorm(4, num_groups=2)], ids=["layer", "group"])
@pytest.mark.parametrize("ratio", [0.0, 1e3])
def test_a_million_values_in_a_group_cost_no_digits_in_channels_last(
    make: Callable[[], nn.Module], ratio: float
) -> None:
    torch.manual_seed(1)
    x = (torch.randn(1, 4, 1024, 512) + ratio).to(memory_format=torch.channels_last)
    y, expected = make()(x), make().double()(x.double().contiguous())
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert (y.double() - expected).abs().max() <= (2e-6 if ratio == 0.0 else 2e-4)


@pytest.mark.parametrize("make", [lambda: LayerNorm(4), lambda: GroupNorm(4, num_groups=2)], ids=["layer", "group"])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 5, 2), (1, 4, 1, 3), (1, 4, 3, 5, 2), (1, 4, 2, 1, 1)], ids=str)
def test_one_example_in_channels_last_is_normalized_as_in_any_other_layout(
    make: Callable[[], nn.Module], learned: bool, shape: tuple[int, ...]
) -> None:
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    layer, grad = moved(make()).double().requires_grad_(learned), sample(shape, seed=3)
    for offset in (0.0, 1e4):
        found = []
        for memory_format in (torch.contiguous_format, last):
            x = (sample(shape) + offset).clone(memory_format=memory_format).requires_grad_()
            y = layer(x)
            inputs = [x, *(one for one in layer.parameters() if learned)]
            found.append([y.detach(), *torch.autograd.grad(y, inputs, grad)])
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-7)


def test_what_is_not_finite_stays_what_it_is_in_channels_last() -> None:
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = float("nan")
    y = GroupNorm(4, num_groups=2)(x)
    assert y[0, :2].isnan().all()
    assert y[0, 2:].isfinite().all()
    assert y[1].isfinite().all()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["compiled", "traced", "recorded"])
def test_where_no_number_can_be_asked_for_large_means_cost_no_digits_either(how: str) -> None:
    layer = GroupNorm(4, num_groups=2)
    x = (sample((3, 4, 5, 5)) + 1e4).float().to(memory_format=torch.channels_last)
    run: Callable[[Tensor], Tensor] = {
        "compiled": lambda: torch.compile(layer, backend="aot_eager", fullgraph=True),
        "traced": lambda: torch.jit.trace(layer, (x,)),
        "recorded": lambda: make_fx(layer)(x),
    }[how]()
    expected = GroupNorm(4, num_groups=2).double()(x.double().contiguous())
    assert (run(x).double() - expected).abs().max() <= 2e-5
    assert layer(x[:0]).shape == (0, 4, 5, 5)
