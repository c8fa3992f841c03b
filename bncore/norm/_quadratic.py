"""What layers share that divide by a running quadratic mean and replace a statistic of their gradient by an average.

With `z = x * inverse` per channel and g the gradient into z, the derivative of x through its own quadratic mean is
`inverse * (g - z * mean(g z))`. These layers put an average over earlier backward passes in the place of `mean(g z)`.
So the backward pass is not the derivative of the forward pass, and it leaves an average behind: it cannot be
differentiated again, and gradients depend on the order of backward passes.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine, scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import guarded
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._override import refuse_to_export
from bncore.norm._recompute import recall, recomputing, remember
from bncore.norm._snapshot import snapshot


class QuadraticNorm(Affine, ABC):
    """`y = weight * x / sqrt(square + eps) + bias`, where `square` (C,) is an average of `mean(x^2)`.

    A subclass says which average training uses, and what its backward pass averages. An empty batch is not counted.

    Args:
        num_features: C.
        eps: added to the quadratic mean.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave all averages of a channel as they are where the batch's statistics are not finite.
    """

    running_square: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float,
        affine: bool,
        nan_guard: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, affine, device, dtype, bias=bias)
        self.nan_guard = nan_guard
        self.register_buffer("running_square", torch.ones(num_features, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.zeros((), device=device, dtype=torch.long))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, and averages as before the first batch."""
        super().reset_parameters()
        self.running_square.fill_(1.0)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        if x.numel() == 0:
            return scale_and_shift(x, self.weight, self.bias).to(x.dtype)
        if self.training:
            return self._normalize_in_training(x)
        wide = statistics_dtype(x.dtype)
        inverse = (self.running_square.to(wide) + self.eps).rsqrt()
        return scale_and_shift(x.to(wide) * along_channels(inverse, x), self.weight, self.bias).to(x.dtype)

    def _normalize_in_training(self, x: Tensor) -> Tensor:
        refuse_to_export()
        with torch.no_grad():
            square = x.detach().to(statistics_dtype(x.dtype)).square().mean(channel_axes(x))
            if recomputing():
                used = recall(self, square)
            else:
                # One tensor: what only the backward pass reads is saved for it along with what both read.
                used = snapshot(torch.stack(self._statistics(square)))
                remember(self, square, *used)
                self._take_in(square)
        scale = torch.ones_like(square) if self.weight is None else self.weight.to(square.dtype)
        shift = torch.zeros_like(square) if self.bias is None else self.bias.to(square.dtype)
        return self._apply_to(x, scale, shift, used)

    @abstractmethod
    def _statistics(self, square: Tensor) -> tuple[Tensor, ...]:
        """What the forward and the backward pass need, each (C,), the first of them `inverse`; nothing is changed."""

    @abstractmethod
    def _take_in(self, square: Tensor) -> None:
        """Count the batch, and average its quadratic mean, guarded."""

    @abstractmethod
    def _apply_to(self, x: Tensor, scale: Tensor, shift: Tensor, used: Tensor) -> Tensor:
        """The output: scaled, shifted and with the gradient that the paper gives it."""

    def _guarded(self, newest: Tensor, running: Tensor) -> Tensor:
        """`newest`, but `running` in its place where the guard is on and it is not finite."""
        return guarded(newest, running) if self.nan_guard else newest


def check_momentum(name: str, momentum: float | None) -> None:
    """Raise ValueError unless it is a weight; None, an equal average of all batches to torch, is not offered here."""
    if momentum is None or not 0.0 <= momentum <= 1.0:
        raise ValueError(f"{name} must be a number from 0 to 1, got {momentum}")


def normalized(x: Tensor, scale: Tensor, shift: Tensor, inverse: Tensor) -> Tensor:
    """`scale * x * inverse + shift`: x is read once."""
    wide = x.to(inverse.dtype)
    return torch.addcmul(along_channels(shift, x), wide, along_channels(scale * inverse, x)).to(x.dtype)


def sums(x: Tensor, grad: Tensor, scale: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients (C,) of scale and shift, and `mean(g z)`."""
    axes = channel_axes(x)
    wide = grad.to(inverse.dtype)
    into_scale = (wide * x.to(inverse.dtype)).sum(axes) * inverse
    return into_scale, wide.sum(axes), scale * into_scale / (x.numel() // x.shape[1])


def into_input(x: Tensor, grad: Tensor, scale: Tensor, inverse: Tensor, average: Tensor) -> Tensor:
    """`inverse * (g - z * average)` with g = scale * grad."""
    direct = grad.to(inverse.dtype) * along_channels(scale * inverse, x)
    return (direct - x.to(inverse.dtype) * along_channels(average * inverse.square(), x)).to(x.dtype)
