"""What benchmarks measure our layers against computes the same: a ratio to anything else would say nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bncore.norm as norms
from bench import rivals

PAIRS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {
    "ghost": (lambda c: norms.GhostBatchNorm(c, virtual_batch_size=4), lambda c: rivals.Ghost(c, 4)),
    "renorm": (lambda c: norms.BatchRenorm(c, warmup_steps=0), rivals.Renorm),
    "layer norm": (norms.LayerNorm, rivals.LayerNormOverImages),
    "rms norm": (lambda c: norms.RMSNorm(c, eps=1e-6), rivals.RmsOverImages),
    "frozen": (norms.FrozenBatchNorm, rivals.Frozen),
    "masked": (norms.MaskedBatchNorm, rivals.Masked),
}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", PAIRS)
def test_it_trains_like_ours(name: str, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    mask = (torch.rand(8, 5, 3) < 0.6,) if name == "masked" else ()
    mine, theirs = (make(6).double() for make in PAIRS[name])
    for _ in range(3):
        x = torch.randn(8, 6, 5, 3, dtype=torch.float64).mul(2.0).add(1.0).to(memory_format=memory_format)
        weights = torch.randn(8, 6, 5, 3, dtype=torch.float64)
        torch.testing.assert_close(_pass(mine, x, weights, mask), _pass(theirs, x, weights, mask))


def _pass(layer: nn.Module, x: Tensor, weights: Tensor, mask: tuple[Tensor, ...]) -> list[Tensor]:
    """Output and gradients, of a loss that weighs every output by itself."""
    x = x.detach().requires_grad_()
    y = layer(x, *mask)
    gradients = torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])
    return [y, *(gradient.flatten() if gradient.dim() < 4 else gradient for gradient in gradients)]
