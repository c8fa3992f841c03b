"""One forward pass of a normalization layer along a sequence whose steps become known one after the other.

A layer with statistics a time step takes them in once, when the pass is over; any other layer is called step by step.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from bncore.norm._dispatch import may_use_native
from bncore.norm._native import batch_norm
from bncore.norm._recompute import recomputing
from bncore.recurrent._masked import masked_moments


class Pass(Protocol):
    """What a cell needs of each of its normalization layers while it walks along a sequence."""

    def normalize(self, at: int, x: Tensor, /) -> Tensor:
        """Normalize `x` (K, N, C), the steps of this pass from number `at` on."""

    def finish(self) -> None:
        """All steps are done."""


class PlainPass:
    """Of a layer that knows no time: `layer(x)`."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def normalize(self, _at: int, x: Tensor, /) -> Tensor:
        y: Tensor = self._layer(x)
        return y

    def finish(self) -> None:
        pass


class SequencePass:
    """Of a layer with statistics over all valid frames, to which a pass comes as a whole."""

    def __init__(self, layer: nn.Module, valid: Tensor) -> None:
        self._layer = layer
        self._lengths = valid.sum(0)

    def normalize(self, _at: int, x: Tensor, /) -> Tensor:
        y: Tensor = self._layer(x, self._lengths)
        return y

    def finish(self) -> None:
        pass


class StepLayer(Protocol):
    """What a pass asks of a layer with statistics a time step, `StepBatchNorm`."""

    training: bool
    eps: float
    weight: nn.Parameter
    bias: nn.Parameter | None

    def take_in(self, step: int, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Average the statistics of the steps from `step` on, when all are done."""


class StepPass:
    """Of a layer with statistics a time step; its `begin` makes it."""

    def __init__(
        self, layer: StepLayer, population: tuple[Tensor, Tensor] | None, valid: Tensor | None, step: int
    ) -> None:
        self._layer = layer
        self._population = population
        self._valid = valid
        self._step = step
        self._count = None if valid is None else valid.sum(1, keepdim=True)
        self._sequences = 0
        self._means: list[Tensor] = []
        self._vars: list[Tensor] = []

    def normalize(self, at: int, x: Tensor, /) -> Tensor:
        if not self._layer.training:
            assert self._population is not None
            mean, var = (table[at : at + x.shape[0]] for table in self._population)
            return self._standardize(x, mean, var)
        self._sequences = x.shape[1]
        if self._sequences == 0:
            return x
        if self._valid is None and may_use_native(x):
            return self._native(x)
        valid = None if self._valid is None else self._valid[at : at + x.shape[0]]
        mean, var = masked_moments(x, valid)
        self._measured(mean, var)
        if self._count is not None:
            assert self._population is not None
            alone = self._count[at : at + x.shape[0]] < 2
            running = [table[at : at + x.shape[0]].to(x.dtype) for table in self._population]
            mean, var = torch.where(alone, running[0], mean), torch.where(alone, running[1], var)
        return self._standardize(x, mean, var)

    def finish(self) -> None:
        if not self._means or recomputing():
            return
        mean, var = torch.cat(self._means), torch.cat(self._vars)
        count = torch.full_like(mean[:, :1], self._sequences) if self._count is None else self._count.to(mean.dtype)
        self._layer.take_in(self._step, mean, var, count)

    def _native(self, x: Tensor) -> Tensor:
        """A kernel that reads x twice and saves nothing else; each channel of each step is a channel to it."""
        steps, sequences, channels = x.shape
        flat = x.transpose(0, 1).reshape(sequences, steps * channels)
        # With momentum 1 the kernel leaves the batch's own statistics here.
        mean, var = x.new_zeros(steps * channels), x.new_zeros(steps * channels)
        weight, bias = self._parameters(x.dtype)
        bias = None if bias is None else bias.repeat(steps)
        y = batch_norm(flat, mean, var, weight.repeat(steps), bias, 1.0, self._layer.eps)
        self._measured(mean.view(steps, channels), var.view(steps, channels) * ((sequences - 1) / sequences))
        return y.view(sequences, steps, channels).transpose(0, 1)

    def _measured(self, mean: Tensor, var: Tensor) -> None:
        self._means.append(mean.detach())
        self._vars.append(var.detach())

    def _standardize(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        weight, bias = self._parameters(x.dtype)
        scale = (var.to(x.dtype) + self._layer.eps).rsqrt() * weight
        y = (x - mean.to(x.dtype).unsqueeze(1)) * scale.unsqueeze(1)
        return y if bias is None else y + bias

    def _parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        layer = self._layer
        return layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
