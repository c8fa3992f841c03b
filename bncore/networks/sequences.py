"""Modules of networks of sequences that `torch.nn` has not, and the network that tells them how long sequences are.

Shapes: N sequences, T steps, C features; valid (N, T) is True where a step is no padding. Invariant: what padding
holds, be it NaN, reaches no valid output, no statistic and no gradient. The network zeroes it once, where it comes in;
behind that, padding holds some finite numbers which no layer looks at.
"""

import math
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.norm._valid import TakesValid, Valid, handed
from bncore.spec.blueprint import Attention, Embedding, FirstToken, OverTime, Patches, Positions, Signal

SPREAD = 0.02
"""Standard deviation of what is added to or put among the steps, as in arXiv 1810.04805's code and most after it."""

SequenceLayer = Patches | Embedding | FirstToken | Positions | Attention | OverTime


class SequenceNetwork(nn.Sequential):
    """A network whose inputs (N, T, F) or tokens (N, T) may come with `lengths`, integers (N,) of at least 1.

    Steps from its length on are padding; without lengths all steps are valid. Every layer that takes masks is told of
    them by the same means as by `bncore.norm.valid_positions`.
    """

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs (N, classes), or (N, T, classes), of which those of padded steps are finite and mean nothing.

        Raises:
            ValueError: the lengths do not fit.
        """
        if lengths is None:
            output: Tensor = super().forward(input)
            return output
        mask = Valid(lengths=lengths).of(input, input.shape[:2])
        assert mask is not None
        zero = torch.zeros((), dtype=input.dtype, device=input.device)
        kept = torch.where(mask if input.dim() == 2 else mask.unsqueeze(-1), input, zero)
        with handed(self._told(lengths, mask)):
            output = super().forward(kept)
        return output  # noqa: RET504 - typed above

    def _told(self, lengths: Tensor, mask: Tensor) -> list[tuple[TakesValid, Valid]]:
        """What each layer is told; behind a step that is put in front of the others, there is one more."""
        layers: list[tuple[TakesValid, Valid]] = []
        by_lengths, by_mask = Valid(lengths=lengths), Valid(mask)
        for child in self:
            layers += [
                (module, by_lengths if module.wants_lengths else by_mask)
                for module in child.modules()
                if isinstance(module, TakesValid)
            ]
            if isinstance(child, StepInFront):
                by_lengths, by_mask = Valid(lengths=lengths + 1), Valid(F.pad(mask, (1, 0), value=True))
        return layers


class CutIntoPatches(nn.Module):
    """(N, C, H, W) to (N, H W / P^2, C P^2): patches row by row, each with its channels one after the other."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.size, stride=self.size).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class StepInFront(nn.Module):
    """(N, T, C) to (N, T + 1, C): the same learned step `token` (C,) in front of each sequence."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.token.to(x.dtype).expand(len(x), 1, -1), x), 1)


class LearnedPositions(nn.Module):
    """Adds `weight` (T, C), of whose rows shorter input uses the first. Longer input is a ValueError."""

    only_adds = True
    """No layer to pass for those who count how deep others lie (`bncore.diagnostics`)."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(steps, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + _rows(self.weight, x)


class SinusoidalPositions(nn.Module):
    """Adds sin(t / 10000^(2 i / C)) to channel 2 i of step t, and the cosine to channel 2 i + 1 (arXiv 1706.03762).

    There are T steps, as of learned ones.
    """

    table: Tensor

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        step = torch.arange(steps, dtype=torch.float64).unsqueeze(1)
        channel = torch.arange(channels)
        angle = step * torch.exp((channel - channel % 2) * (-math.log(10_000.0) / channels))
        table = torch.where(channel % 2 == 0, angle.sin(), angle.cos())
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + _rows(self.table, x)


def _rows(table: Tensor, x: Tensor) -> Tensor:
    """Those of the steps of `x` (N, T, C)."""
    known, steps = len(table), x.shape[1]
    if steps > known:
        # A single row would be added to every step.
        raise ValueError(
            f"{steps} steps, and positions of {known}; cut padding off, or build the network for longer sequences"
        )
    return table[:steps]


class SelfAttention(nn.Module, TakesValid):
    """(N, T, 3 C), queries, keys and values side by side, to (N, T, C): softmax(Q K' / sqrt(C / heads)) V in each head.

    Padding is no key. `dropout` zeroes attention weights in training.
    """

    def __init__(self, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, channels = x.shape
        query, key, value = x.view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if self._handed is None else self._handed.of(x, (batch, steps))
        mask = None if mask is None else mask[:, None, None]
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return y.transpose(1, 2).reshape(batch, steps, channels // 3)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, dropout={self.dropout}"


class LastStep(nn.Module, TakesValid):
    """(N, T, C) to (N, C): the last valid step; of the second half of the channels the first one if `bidirectional`."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional

    def forward(self, x: Tensor) -> Tensor:
        valid = None if self._handed is None else self._handed.of(x, x.shape[:2])
        if valid is None:
            last = x[:, -1]
        else:
            at = (valid.sum(1) - 1).clamp_min(0)
            last = x.gather(1, at.view(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1)
        if not self.bidirectional:
            return last
        half = x.shape[2] // 2
        return torch.cat((last[:, :half], x[:, 0, half:]), 1)

    def extra_repr(self) -> str:
        return f"bidirectional={self.bidirectional}"


class FirstStep(nn.Module):
    """(N, T, C) to (N, C): the first step."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class MeanOverTime(nn.Module, TakesValid):
    """(N, T, C) to (N, C): the mean of the valid steps."""

    def forward(self, x: Tensor) -> Tensor:
        valid = None if self._handed is None else self._handed.of(x, x.shape[:2])
        if valid is None:
            return x.mean(1)
        kept = torch.where(valid.unsqueeze(-1), x, torch.zeros((), dtype=x.dtype, device=x.device))
        return kept.sum(1) / valid.sum(1, keepdim=True).clamp_min(1).to(x.dtype)


def sequence_module(layer: SequenceLayer, signal: Signal) -> nn.Module:
    """The module of a primitive for such a signal; its parameters are yet to be drawn."""
    match layer:
        case Patches():
            assert layer.size is not None, "a plan refuses it"
            return CutIntoPatches(layer.size)
        case Embedding():
            return nn.Embedding(signal.vocabulary, layer.width)
        case FirstToken():
            return StepInFront(signal.channels)
        case Positions():
            kind = LearnedPositions if layer.how == "learned" else SinusoidalPositions
            return kind(signal.steps, signal.channels)
        case Attention():
            return SelfAttention(layer.heads, layer.dropout)
        case OverTime():
            if layer.how == "last":
                return LastStep(layer.bidirectional)
            return FirstStep() if layer.how == "first" else MeanOverTime()
        case _:
            assert_never(layer)


def draw(module: nn.Module, seed: int) -> None:
    """Set what such a module learns, all of it normal with a standard deviation of `SPREAD`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, SPREAD, generator=generator)
