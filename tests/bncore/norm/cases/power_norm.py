"""PowerNorm (arXiv 2003.07845): PN-V in its warm-up, algorithm 2 after it."""

from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm.power_norm import PowerNorm
from tests.bncore.norm.case import Case, affine, batch_axes, per_channel


def _warming(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, x / per_channel(x.square().mean(batch_axes(x)) + layer.eps, x) ** 0.5)


class ApproximateBackward(torch.autograd.Function):
    """x / psi, whose derivative is (g - nu * x / psi) / psi by decree."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Tensor, nu: Tensor) -> Tensor:
        ctx.save_for_backward(x, psi, nu)
        return x / per_channel(psi, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, psi, nu = ctx.saved_tensors
        normalized = x / per_channel(psi, x)
        return (grad - per_channel(nu, x) * normalized) / per_channel(psi, x), None, None


def _power_norm(layer: nn.Module, x: Tensor) -> Tensor:
    psi = (layer.running_square + layer.eps).sqrt()
    return affine(layer, ApproximateBackward.apply(x, psi, layer.running_product.clone()))


def _evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, x / per_channel(layer.running_square + layer.eps, x).sqrt())


def _statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    step = x.square().mean(batch_axes(x)) - layer.running_square
    return {
        "running_square": layer.running_square + layer.forward_momentum * step,
        "running_product": layer.running_product,
        "num_batches_tracked": layer.num_batches_tracked + 1,
    }


def _set_averages(layer: nn.Module) -> None:
    layer.running_square.copy_(torch.tensor([2.1, 4.4, 0.9, 3.0], dtype=torch.float64))
    layer.running_product.copy_(torch.tensor([0.3, -0.2, 0.05, -0.6], dtype=torch.float64))
    layer.num_batches_tracked.fill_(10)


CASES = [
    Case(
        "power_norm, warming up",
        lambda: PowerNorm(4),
        _warming,
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
    Case(
        "power_norm",
        lambda: PowerNorm(4, warmup_steps=10),
        _power_norm,
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
