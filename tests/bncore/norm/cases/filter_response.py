"""Filter response norm (arXiv 1911.09737), with its thresholded unit, and with a learned eps instead."""

import torch
from torch import Tensor, nn

from bncore.norm.filter_response_norm import FilterResponseNorm
from tests.bncore.norm.case import Case, affine, per_channel


def _filter_response(layer: nn.Module, x: Tensor, eps: Tensor | float) -> Tensor:
    square = x.reshape(*x.shape[:2], -1).pow(2).mean(2).reshape(*x.shape[:2], *(1,) * (x.dim() - 2))
    return affine(layer, x / (square + eps) ** 0.5)


def _thresholded(layer: nn.Module, x: Tensor) -> Tensor:
    y = _filter_response(layer, x, layer.eps)
    tau = per_channel(layer.tau, y)
    return torch.relu(y - tau) + tau


def _learned_eps(layer: nn.Module, x: Tensor) -> Tensor:
    return _filter_response(layer, x, layer.eps + layer.learned_eps.reshape(()).abs())


def _negative_eps(layer: nn.Module) -> None:
    layer.learned_eps.fill_(-0.3)


CASES = [
    Case(
        "filter_response_norm",
        lambda: FilterResponseNorm(4, eps=1e-2),
        _thresholded,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    ),
    Case(
        "filter_response_norm, learned eps",
        lambda: FilterResponseNorm(4, learn_eps=True, threshold=False),
        _learned_eps,
        arrange=_negative_eps,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    ),
]
