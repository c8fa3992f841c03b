"""Moving average batch norm (arXiv 2001.06838) after its warm-up, with a window that is not full yet."""

from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm.moving_average_batch_norm import MovingAverageBatchNorm
from tests.bncore.norm.case import Case, affine, batch_axes, per_channel


class AveragedBackward(torch.autograd.Function):
    """z = x / chi, whose derivative is (g - z * mean(Psi)) / chi with Psi of this batch and of those before it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, chi: Tensor, earlier: Tensor) -> Tensor:
        z = x / per_channel(chi, x)
        ctx.save_for_backward(z, chi, earlier)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, chi, earlier = ctx.saved_tensors
        psi = torch.cat(((grad * z).mean(batch_axes(z))[None], earlier)).mean(0)
        return (grad - z * per_channel(psi, z)) / per_channel(chi, z), None, None


def _seen(layer: nn.Module, window: Tensor, batches: Tensor) -> Tensor:
    """What the next average takes from a window: the newest come first, and the oldest is about to fall out."""
    return window[: min(int(batches), layer.window - 1)].clone()


def _moving_average(layer: nn.Module, x: Tensor) -> Tensor:
    square = x.detach().square().mean(batch_axes(x))
    squares = torch.cat((square[None], _seen(layer, layer.window_square, layer.num_batches_tracked)))
    chi = (squares.mean(0) + layer.eps).sqrt()
    r = (chi / (layer.running_square + layer.eps).sqrt()).clamp(1 / layer.r_max, layer.r_max)
    z = AveragedBackward.apply(x, chi, _seen(layer, layer.window_product, layer.num_gradients_tracked))
    return affine(layer, per_channel(r, x) * z)


def _evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, x / per_channel(layer.running_square + layer.eps, x).sqrt())


def _statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    square = x.square().mean(batch_axes(x))
    return {
        "running_square": layer.running_square + layer.momentum * (square - layer.running_square),
        "window_square": torch.cat((square[None], layer.window_square[:-1])),
        "window_product": layer.window_product,
        "num_batches_tracked": layer.num_batches_tracked + 1,
        "num_gradients_tracked": layer.num_gradients_tracked,
    }


def _set_averages(layer: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    for window in (layer.window_square, layer.window_product):
        window.copy_(torch.rand(window.shape, generator=generator, dtype=torch.float64) + 0.5)
    # The first two are within the bounds of r, the others beyond.
    layer.running_square.copy_(torch.tensor([1.5, 0.9, 30.0, 0.02], dtype=torch.float64))
    layer.num_batches_tracked.fill_(9)
    layer.num_gradients_tracked.fill_(2)


CASES = [
    Case(
        "moving_average_batch_norm",
        lambda: MovingAverageBatchNorm(4, window=5, r_max=2.0, warmup_steps=3, r_warmup_steps=9),
        _moving_average,
        _evaluation,
        _statistics,
        _set_averages,
        orders=1,
        third_order=False,
        averages_gradients=True,
        trains_exported=False,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    ),
]
