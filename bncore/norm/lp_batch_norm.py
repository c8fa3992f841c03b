"""Batch normalization by an l_p norm of the activations in place of their standard deviation.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.

Invariant of every layer that divides by a norm: the running quantity is the norm, kept squared under torch's key, and
eps is added to the square. Its evaluation is therefore that of plain batch norm.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from bncore.norm._dispatch import blend
from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm.batch_norm import BatchNorm


class NormBatchNorm(BatchNorm, ABC):
    """Centres each channel with the mean of the batch and divides by a norm of it, which a subclass defines.

    Training: `y = weight * (x - mean) / sqrt(norm^2 + eps) + bias`; then `running_mean` and the root of `running_var`
    move towards the mean and the norm by `momentum`. All vectors are (C,).
    """

    _before_centring: ClassVar[bool]
    """Whether the norm is that of x, or of x minus its mean."""

    @abstractmethod
    def _squared_norm(self, x: Tensor) -> Tensor:
        """The square of the norm of each channel, (1, C, 1, ...).

        The square, because the root of a mean of squares has no derivative for a channel of zeros.
        """

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        wide = x.to(statistics_dtype(x.dtype))
        # A mean that is large beside the spread is rounded by more than the spread bears: it is taken in two parts.
        rough_mean = wide.detach().mean(channel_axes(x), keepdim=True)
        centred = wide - rough_mean
        rest = channel_means(centred)
        # Added and not subtracted: the derivative of a difference negates all of the gradient.
        centred = centred + -rest
        squared_norm = self._squared_norm(wide if self._before_centring else centred)
        self._take_in_norm((rough_mean + rest).detach().flatten(), squared_norm.detach().flatten().sqrt())
        scale = (squared_norm + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * along_channels(self.weight, x)
        if self.bias is None:
            return (centred * scale).to(x.dtype)
        return torch.addcmul(along_channels(self.bias, x).to(wide.dtype), centred, scale).to(x.dtype)

    def _take_in_norm(self, mean: Tensor, norm: Tensor) -> None:
        """Count this batch and average its mean and its norm (C,) into the running statistics, if it counts."""
        if not self._updates():
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            newest = self._count(mean, norm)
            blend(self.running_mean, self._guarded(mean, self.running_mean), newest)
            running_norm = self.running_var.sqrt()
            blend(running_norm, self._guarded(norm, running_norm), newest)
            self.running_var.copy_(running_norm.square())


class LpBatchNorm(NormBatchNorm):
    """Batch normalization that divides by the average l_p norm of the activations, taken before they are centred.

    Training: `y = weight * (x - mean) / sqrt(norm^2 + eps) + bias` with, per channel (C,) and over all other axes,
    `norm = mean |x|` for p = 1, `sqrt(mean x^2)` for p = 2, `max |x|` for p = inf. Input and output: (N, C, ...).

    The paper says that activations are centred and divided by "the average of their l_p norm (before shifting the
    mean)", with no equation; this is our reading. "Before" means that a constant added to x changes the output, unlike
    in batch norm. The paper has no eps: here it is added to the square of the norm, as batch norm adds it to the square
    of the standard deviation. Where several values share the maximum, its gradient is split evenly among them.

    Difference from `torch.nn.BatchNorm*`: the norm, and the running quantity: the norm is averaged, and kept under
    torch's key as `running_var = norm^2`, so that evaluation is plain batch norm and keys are those of torch.

    arXiv 1805.11604, section 3.3.

    Args:
        num_features: C.
        p: 1, 2 or `float("inf")`.
        eps: added to the square of the norm.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: for another p; from the forward pass as `BatchNorm`.
    """

    _before_centring = True

    def __init__(
        self,
        num_features: int,
        p: float = 2,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if p not in (1, 2, math.inf):
            raise ValueError(f"p must be 1, 2 or inf, got {p}")
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.p = p

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"

    def _squared_norm(self, x: Tensor) -> Tensor:
        if self.p == 1:
            return channel_means(x.abs()).square()
        if self.p == 2:
            return channel_means(x.square())
        return x.abs().amax(channel_axes(x), keepdim=True).square()


def channel_means(x: Tensor) -> Tensor:
    """The mean of each channel, (1, C, 1, ...). The derivative of torch's own mean writes a tensor of the size of x."""
    return x.sum(channel_axes(x), keepdim=True) * (x.shape[1] / x.numel())
