"""Batch normalization for a batch of any rank: `torch.nn.BatchNorm*` number for number, and under its keys.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bncore.norm._dispatch import being_transformed, blend
from bncore.norm._moments import along_channels, channel_axes, moments


class BatchNorm(_BatchNorm):
    """Standardizes each channel with the mean and variance of the batch.

    Training: `y = weight * (x - mean) / sqrt(var + eps) + bias`, with mean and biased variance (C,) over all axes but
    the channel axis; `running = (1 - momentum) * running + momentum * batch` with the unbiased variance. Evaluation:
    the same with the running statistics. Input and output: (N, C, ...).

    Difference from `torch.nn.BatchNorm1d/2d/3d`: one class for every rank; `momentum=None` (equal-weight average) reads
    no number back from the device; under `torch.func` transforms, forward-mode differentiation and on the meta device
    it is made of primitive operations, so that derivatives of every order are right.

    arXiv 1502.03167, algorithms 1 and 2.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        track_running_stats: keep running statistics; without them, evaluation uses the batch as well.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x)
        if not self.training and self.running_mean is not None:
            return self._normalize_with_running(x)
        check_more_than_one_value(x)
        updates = self.training and self.track_running_stats and self.running_mean is not None
        if updates:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        if torch.compiler.is_compiling() or not being_transformed(x):
            return self._native(x, updates)
        return self._primitive(x, updates)

    def _check_input_dim(self, input: Tensor) -> None:
        check_rank(input)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        if not torch.compiler.is_compiling() and being_transformed(x):
            return standardize(x, self.running_mean, self.running_var, self.eps, self.weight, self.bias)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def _native(self, x: Tensor, updates: bool) -> Tensor:
        if not updates:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if self.momentum is not None:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, True, self.momentum, self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        # With momentum 1 the kernel leaves the batch's own statistics here.
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        y = F.batch_norm(x, mean, var, self.weight, self.bias, True, 1.0, self.eps)
        self._average(mean, var)
        return y

    def _primitive(self, x: Tensor, updates: bool) -> Tensor:
        batch = moments(x, channel_axes(x))
        mean, var = batch.mean.flatten(), batch.var.flatten()
        if updates:
            # Statistics are measurements, not part of the function that is differentiated.
            self._average(mean.detach(), var.detach() * (batch.count / (batch.count - 1)))
        return standardize(x, mean, var, self.eps, self.weight, self.bias)

    def _average(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        newest = self._weight_of_newest()
        with torch.no_grad():
            blend(self.running_mean, mean, newest)
            blend(self.running_var, var, newest)

    def _weight_of_newest(self) -> Tensor | float:
        """The momentum, or one over the number of batches seen, which stays on the device."""
        if self.momentum is not None:
            return self.momentum
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        return self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()


def standardize(x: Tensor, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`weight * (x - mean) / sqrt(var + eps) + bias` with vectors (C,), in primitive operations."""
    centred = x.to(mean.dtype) - along_channels(mean, x)
    y = centred * along_channels((var + eps).rsqrt(), x)
    if weight is not None:
        y = y * along_channels(weight, x)
    if bias is not None:
        y = y + along_channels(bias, x)
    return y.to(x.dtype)


def check_rank(x: Tensor) -> None:
    """Raise ValueError unless `x` has a batch axis and a channel axis."""
    if x.dim() < 2:
        raise ValueError(f"expected a batch of shape (N, C, ...), got {x.dim()} axes; add the batch axis")


def check_more_than_one_value(x: Tensor) -> None:
    """Raise ValueError for one value per channel: its variance is 0, and normalization would erase the input."""
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}; "
            "use a larger batch or drop the last partial one"
        )
