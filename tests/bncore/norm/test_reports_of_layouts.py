"""What users of other libraries reported of layouts, types, copies and losses of gradients, replayed here.

The id of a test is the repository on GitHub and the number of the thread, as in `test_reports.py`.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import BatchNorm, GhostBatchNorm, GroupNorm, LayerNorm, RMSNorm, spectral_norm, weight_norm
from tests.bncore.norm.case import sample, standardized


def one_model_in_two_layouts_has_the_same_numbers() -> None:
    # Images of which a kernel takes parts, and such that it does not.
    for shape, size in (((11, 64, 28, 28), 4), ((16, 24, 7, 7), 8)):
        x, gradient = sample(shape, seed=1).float(), sample(shape, seed=2).float()
        for make in (BatchNorm, lambda channels, size=size: GhostBatchNorm(channels, size)):
            results = []
            for layout in (torch.contiguous_format, torch.channels_last):
                layer, own = make(shape[1]), x.to(memory_format=layout, copy=True).requires_grad_()
                y = layer(own)
                y.backward(gradient)
                results.append((y, own.grad, layer.weight.grad, layer.running_mean, layer.running_var))
            for mine, other in zip(*results, strict=True):
                # Sums of thousands of float32: of a kernel of torch's, in another order.
                error = 1e-4 * max(1.0, other.detach().abs().max().item())
                torch.testing.assert_close(mine, other, rtol=1e-4, atol=error)


def gradients_come_in_the_layout_of_the_input() -> None:
    for layer in (BatchNorm(64), GhostBatchNorm(64, 2), GroupNorm(64, 8), LayerNorm(64), RMSNorm(64)):
        x, seen = sample((4, 64, 28, 28)).float().to(memory_format=torch.channels_last).requires_grad_(), []
        between = x * 1
        between.register_hook(
            lambda grad, seen=seen: seen.append(grad.is_contiguous(memory_format=torch.channels_last))
        )
        layer(between).sin().sum().backward()
        assert seen == [True], layer


def an_empty_batch_moves_no_statistics() -> None:
    for layer in (BatchNorm(5), GhostBatchNorm(5, 4)):
        before = copy.deepcopy(layer.state_dict())
        for shape in ((0, 5), (0, 5, 9)):
            assert layer(torch.ones(shape)).shape == shape
        for name in ("running_mean", "running_var"):
            assert torch.equal(layer.state_dict()[name], before[name])


def a_momentum_of_zero_moves_no_statistics() -> None:
    for layer in (BatchNorm(3, momentum=0.0), GhostBatchNorm(3, 4, momentum=0.0)):
        x = sample((8, 3, 4)).float() + 2
        layer(x)
        assert torch.equal(layer.running_mean, torch.zeros(3))
        assert torch.equal(layer.running_var, torch.ones(3))
        torch.testing.assert_close(layer.eval()(x), x / (1 + layer.eps) ** 0.5)


def small_values_in_bfloat16_are_measured_in_single_precision() -> None:
    x = (sample((8, 32)).float() * 0.058).bfloat16()
    wide = x.double()
    expected = wide / (wide.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(RMSNorm(32)(x).double(), expected, rtol=2**-7, atol=2**-7)


def wide_scales_do_not_widen_the_output() -> None:
    for layer in (RMSNorm(8), LayerNorm(8), BatchNorm(8), GhostBatchNorm(8, 2), GroupNorm(8, 2)):
        assert layer.weight.dtype is torch.float32
        assert layer(sample((4, 8, 3)).bfloat16()).dtype is torch.bfloat16


def zeros_in_half_precision_with_an_eps_that_underflows() -> None:
    for layer in (LayerNorm(10, eps=1e-12), BatchNorm(10, eps=1e-12), GroupNorm(10, 2, eps=1e-12)):
        x = torch.zeros(4, 10, 3, dtype=torch.float16, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert torch.equal(y, torch.zeros_like(y))
        assert x.grad.isfinite().all()


def a_reparametrized_layer_is_copied_after_a_pass() -> None:
    for wrap in (weight_norm, spectral_norm):
        layer, x = wrap(nn.Linear(6, 4)).double(), sample((3, 6))
        layer(x).sum().backward()
        other = copy.deepcopy(layer)
        torch.testing.assert_close(other.eval()(x), layer.eval()(x), rtol=0, atol=0)
        with torch.no_grad():
            other.bias.add_(1.0)
        assert not torch.equal(other.bias, layer.bias)


def evaluation_gives_the_weight_its_gradient() -> None:
    layer, x = spectral_norm(nn.Linear(6, 4)).double(), sample((3, 6))
    layer(x)
    layer.eval()(x).sin().sum().backward()
    found = layer.parametrizations.weight.original.grad
    # The weight is divided by its length: along itself, it has no slope.
    assert found.norm() > 1e-3
    assert abs((found * layer.parametrizations.weight.original).sum()) < 1e-10


def a_scale_has_its_gradient_where_the_input_wants_none() -> None:
    for layer in (GroupNorm(32, 8), LayerNorm(32), BatchNorm(32), GhostBatchNorm(32, 2)):
        layer.double()
        for layout in (torch.contiguous_format, torch.channels_last):
            layer.weight.grad = None
            x = sample((4, 32, 8, 8)).to(memory_format=layout)
            other = x.clone(memory_format=torch.preserve_format).requires_grad_()
            (layer(x) * x.sin()).sum().backward()
            (layer(other) * x.sin()).sum().backward()
            (alone,) = torch.autograd.grad((layer(other) * x.sin()).sum(), layer.weight)
            torch.testing.assert_close(layer.weight.grad, 2 * alone, rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(alone, (_standardized_by(layer, x) * x.sin()).sum((0, 2, 3)))


def _standardized_by(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's output less scale and shift, which are as they begin."""
    return layer(x.contiguous()).detach()


def running_variance_is_unbiased_and_the_batch_is_divided_by_the_biased_one() -> None:
    x = sample((6, 2, 3))
    for layer, groups in ((BatchNorm(2, momentum=1.0), 1), (GhostBatchNorm(2, 3, momentum=1.0), 2)):
        y = layer.double()(x)
        own = x.tensor_split(groups)
        expected = torch.stack([part.transpose(0, 1).flatten(1).var(1, correction=1) for part in own]).mean(0)
        torch.testing.assert_close(layer.running_var, expected, rtol=1e-12, atol=1e-12)
        for part, normalized in zip(own, y.tensor_split(groups), strict=True):
            torch.testing.assert_close(normalized, standardized(part, (0, 2), layer.eps))


REPORTS: dict[str, Callable[[], None]] = {
    "pytorch/pytorch#121651": one_model_in_two_layouts_has_the_same_numbers,
    "pytorch/pytorch#107199": gradients_come_in_the_layout_of_the_input,
    "pytorch/pytorch#12013": an_empty_batch_moves_no_statistics,
    "pytorch/pytorch#15298": a_momentum_of_zero_moves_no_statistics,
    "pytorch/pytorch#189581": small_values_in_bfloat16_are_measured_in_single_precision,
    "huggingface/transformers#30236": wide_scales_do_not_widen_the_output,
    "pytorch/pytorch#41527": zeros_in_half_precision_with_an_eps_that_underflows,
    "pytorch/pytorch#102981": a_reparametrized_layer_is_copied_after_a_pass,
    "pytorch/pytorch#12737": evaluation_gives_the_weight_its_gradient,
    "PaddlePaddle/Paddle#54244": a_scale_has_its_gradient_where_the_input_wants_none,
    "pytorch/pytorch#19916": running_variance_is_unbiased_and_the_batch_is_divided_by_the_biased_one,
}


@pytest.mark.parametrize("replay", REPORTS.values(), ids=REPORTS)
def test_what_was_reported_of_others_is_right_here(replay: Callable[[], None]) -> None:
    replay()
