"""Cross-iteration batch norm (arXiv 2002.05712) that follows no layer: the window as it was, without compensation.

With a layer to follow it is in `test_cross_iteration_batch_norm.py`: a case is one layer by itself.
"""

import torch
from torch import Tensor, nn

from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    per_channel,
)


def _cross_iteration(layer: nn.Module, x: Tensor) -> Tensor:
    """Means and second moments of all iterations, averaged channel by channel."""
    mean, second = x.mean(batch_axes(x)), x.square().mean(batch_axes(x))
    means, seconds = [], []
    for channel in range(x.shape[1]):
        filled = layer.window_filled[:, channel] > 0
        old_mean, old_var = layer.window_mean[filled, channel], layer.window_var[filled, channel]
        means.append(torch.cat((mean[channel].view(1), old_mean)).mean())
        seconds.append(torch.cat((second[channel].view(1), old_var + old_mean**2)).mean())
    center, moment = torch.stack(means), torch.stack(seconds)
    return affine(layer, (x - per_channel(center, x)) / per_channel(moment - center**2 + layer.eps, x) ** 0.5)


def _shifted(window: Tensor, newest: Tensor) -> Tensor:
    return torch.cat((newest[None], window[:-1]))


def _statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    return {
        **batch_norm_statistics(layer, x),
        "window_mean": _shifted(layer.window_mean, x.mean(batch_axes(x))),
        "window_var": _shifted(layer.window_var, x.var(batch_axes(x), correction=0)),
        "window_filled": _shifted(layer.window_filled, torch.ones(4, dtype=torch.float64)),
    }


def _partly_fill(layer: nn.Module) -> None:
    layer.window_mean[:2] = torch.tensor([[0.2, 0.9, -0.4, 1.1], [1.3, 0.1, 0.5, 0.0]], dtype=torch.float64)
    layer.window_var[:2] = torch.tensor([[2.0, 0.7, 3.1, 1.6], [1.0, 2.4, 0.3, 1.8]], dtype=torch.float64)
    layer.window_filled[0] = 1.0
    # As after a batch whose second channel the guard kept out.
    layer.window_filled[1] = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)


CASES = [
    Case(
        "cross_iteration_batch_norm, bare",
        lambda: CrossIterationBatchNorm(4),
        _cross_iteration,
        batch_norm_evaluation,
        _statistics,
        _partly_fill,
        ignores_offset=False,
    ),
]
