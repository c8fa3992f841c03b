"""Every layer against the equations of its paper, written out in primitive operations in double precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import BatchNorm, BatchRenorm, GroupNorm, LayerNorm

SHAPES = [(12, 4), (6, 4, 3), (5, 4, 3, 2), (4, 4, 2, 3, 2)]
Oracle = Callable[[nn.Module, Tensor], Tensor]


def standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / (var + eps) ** 0.5


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    shape = (1, -1, *(1,) * (x.dim() - 2))
    return x * layer.weight.view(shape) + layer.bias.view(shape)


def batch_norm_oracle(layer: nn.Module, x: Tensor) -> Tensor:
    axes = tuple(axis for axis in range(x.dim()) if axis != 1)
    return affine(layer, standardized(x, axes, layer.eps))


def batch_renorm_oracle(layer: nn.Module, x: Tensor) -> Tensor:
    axes = tuple(axis for axis in range(x.dim()) if axis != 1)
    shape = (1, -1, *(1,) * (x.dim() - 2))
    mean = x.detach().mean(axes)
    sigma_batch = (x.detach().var(axes, correction=0) + layer.eps).sqrt()
    sigma = (layer.running_var + layer.eps).sqrt()
    r = (sigma_batch / sigma).clamp(1 / layer.r_max, layer.r_max).view(shape)
    d = ((mean - layer.running_mean) / sigma).clamp(-layer.d_max, layer.d_max).view(shape)
    return affine(layer, standardized(x, axes, layer.eps) * r + d)


def layer_norm_oracle(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, tuple(range(1, x.dim())), layer.eps))


def group_norm_oracle(layer: nn.Module, x: Tensor) -> Tensor:
    grouped = x.reshape(x.shape[0], 2, 2, *x.shape[2:])
    return affine(layer, standardized(grouped, tuple(range(2, grouped.dim())), layer.eps).reshape(x.shape))


def layers() -> dict[str, tuple[nn.Module, Oracle]]:
    wide = BatchRenorm(4, r_max=50.0, d_max=50.0, warmup_steps=0)
    tight = BatchRenorm(4, r_max=1.1, d_max=0.2, warmup_steps=0)
    return {
        "batch_norm": (BatchNorm(4), batch_norm_oracle),
        "batch_renorm within bounds": (wide, batch_renorm_oracle),
        "batch_renorm at its bounds": (tight, batch_renorm_oracle),
        "layer_norm": (LayerNorm(4), layer_norm_oracle),
        "group_norm": (GroupNorm(4, num_groups=2), group_norm_oracle),
    }


def prepared(name: str) -> tuple[nn.Module, Oracle]:
    layer, oracle = layers()[name]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(4, generator=generator) + 0.5)
        layer.bias.copy_(torch.randn(4, generator=generator))
        if hasattr(layer, "running_mean"):
            layer.running_mean.copy_(torch.randn(4, generator=generator))
            layer.running_var.copy_(torch.rand(4, generator=generator) + 0.5)
    return layer.double(), oracle


def derivatives(y: Tensor, x: Tensor, layer: nn.Module) -> list[Tensor]:
    """y, all first derivatives of a weighted sum of its sines, and all derivatives of those once more."""
    inputs = [x, layer.weight, layer.bias]
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype).view_as(y)
    first = torch.autograd.grad((y.sin() * weights).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(grad.cos().sum() for grad in first), inputs)
    return [y.detach(), *(grad.detach() for grad in first), *second]


def sample(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 1.7 + 0.6).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", layers())
def test_output_and_two_orders_of_derivatives_follow_the_paper(name: str, shape: tuple[int, ...]) -> None:
    layer, oracle = prepared(name)
    x = sample(shape)
    expected = derivatives(oracle(layer, x), x, layer)
    actual = derivatives(layer(x), x, layer)
    for mine, theirs in zip(actual, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("name", layers())
def test_spelled_out_under_a_function_transform_it_gives_the_same(name: str) -> None:
    layer, _ = prepared(name)
    x = sample((5, 4, 3, 2)).detach()
    state = {key: value.clone() for key, value in layer.state_dict().items()}

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {**parameters, **buffers}, (x,)).sin().sum()

    parameters = {key: value.detach().clone() for key, value in layer.named_parameters()}
    buffers = {key: value.clone() for key, value in layer.named_buffers()}
    transformed, into_x = torch.func.grad(loss, argnums=(0, 2))(parameters, buffers, x)
    layer.load_state_dict(state)
    x.requires_grad_()
    layer(x).sin().sum().backward()
    torch.testing.assert_close(into_x, x.grad, rtol=1e-10, atol=1e-10)
    for key, parameter in layer.named_parameters():
        torch.testing.assert_close(transformed[key], parameter.grad, rtol=1e-10, atol=1e-10)
    for key, buffer in layer.named_buffers():
        torch.testing.assert_close(buffers[key], buffer, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["batch_norm", "batch_renorm within bounds"])
def test_forward_mode_second_derivatives_are_right(name: str) -> None:
    layer, oracle = prepared(name)
    x = sample((6, 4)).detach()
    direction = torch.cos(torch.arange(24.0, dtype=torch.float64)).view(6, 4)
    state = {key: value.clone() for key, value in layer.state_dict().items()}

    def curvature(function: Callable[[Tensor], Tensor]) -> Tensor:
        def slope(x: Tensor) -> Tensor:
            return torch.func.jvp(function, (x,), (direction,))[1]

        return torch.func.jvp(slope, (x,), (direction,))[1]

    def run(x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {key: value.clone() for key, value in state.items()}, (x,))

    torch.testing.assert_close(curvature(run), curvature(lambda x: oracle(layer, x)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", layers())
def test_half_precision_input_keeps_its_type_and_is_measured_in_single(name: str) -> None:
    layer, _ = prepared(name)
    layer.float()
    x = sample((16, 4, 3, 3)).detach().bfloat16()
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    y = layer(x)
    layer.load_state_dict(state)
    wide = layer(x.float())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), wide, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("name", layers())
def test_channels_last_stays_channels_last_and_meta_stays_meta(name: str, mode: str) -> None:
    layer, _ = prepared(name)
    layer.float().train(mode == "training")
    x = sample((4, 4, 5, 3)).detach().float()
    last = x.to(memory_format=torch.channels_last)
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    y = layer(last)
    layer.load_state_dict(state)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x))
    on_meta = layer.to("meta")(x.to("meta"))
    assert on_meta.is_meta
    assert on_meta.shape == x.shape


@pytest.mark.parametrize("name", layers())
@pytest.mark.parametrize("spread", [1e-4, 1e-2])
def test_a_large_mean_costs_only_the_digits_that_rounding_it_costs(name: str, spread: float) -> None:
    layer, oracle = prepared(name)
    x = 100.0 + spread * sample((32, 4, 6, 6)).detach()
    if hasattr(layer, "running_mean"):
        layer.running_mean.fill_(100.0)
    expected = oracle(layer, x.float().double())
    single = layer.float()
    # Four roundings of numbers the size of mean / spread, times the largest weight.
    assert (single(x.float()).double() - expected).abs().max() <= 1.5 * 4 * 2**-24 * 100.0 / spread


@pytest.mark.parametrize("name", layers())
def test_a_vector_without_batch_axis_is_refused(name: str) -> None:
    layer, _ = prepared(name)
    with pytest.raises(ValueError, match="batch axis"):
        layer(torch.zeros(4, dtype=torch.float64))


def test_layer_norm_equals_torch_on_vectors_and_on_images() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    image = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(LayerNorm(4)(x), nn.LayerNorm(4)(x), rtol=0, atol=0)
    torch.testing.assert_close(LayerNorm(4)(image), nn.GroupNorm(1, 4)(image), rtol=0, atol=0)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 groups do not divide 4 channels"):
        GroupNorm(4, num_groups=3)
