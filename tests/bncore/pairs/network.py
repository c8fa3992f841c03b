"""The network that every pair of features is tried on: a linear map, the layer under test, an activation, a head.

Invariant: without any switch set it is what a user would write first, and each switch changes only how it is run.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHANNELS_IN = 3
CHANNELS = 4
_MAPS: dict[int, Callable[[int, int], nn.Module]] = {
    2: nn.Linear,
    3: functools.partial(nn.Conv1d, kernel_size=3, padding=1),
    4: functools.partial(nn.Conv2d, kernel_size=3, padding=1),
}


class Network(nn.Module):
    """(N, 3, ...) to (N, 2, ...)."""

    def __init__(self, layer: nn.Module, rank: int) -> None:
        super().__init__()
        self.front = _MAPS[rank](CHANNELS_IN, CHANNELS)
        self.norm = layer
        self.head = _MAPS[rank](CHANNELS, 2)
        # No ReLU: in bfloat16, a value next to its kink turns a whole gradient.
        self.in_place = False
        self.autocast = False
        self.checkpoints: tuple[bool, ...] = ()
        """`use_reentrant` of each checkpoint around the block, the innermost first."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.autocast:
            return self._run(x)
        with torch.autocast("cpu", torch.bfloat16):
            return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        run: Callable[[Tensor], Tensor] = self._block
        for reentrant in self.checkpoints:
            run = functools.partial(checkpoint, run, use_reentrant=reentrant)
        return self.head(run(x))

    def _block(self, x: Tensor) -> Tensor:
        if self.in_place:
            return self.norm(self.front(x).mul_(2)).mul_(0.5).tanh_()
        return (self.norm(self.front(x) * 2) * 0.5).tanh()


class Tagged(Tensor):
    """A subclass such as users bring: by torch's own protocol, what is made of one is one."""


class AlongTime(nn.Module):
    """A layer for sequences (T, N, C) among those for (N, C, T)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.permute(2, 0, 1))
        return (y[0] if isinstance(y, tuple) else y).permute(1, 2, 0)
