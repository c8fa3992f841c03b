"""Batch normalization by the mean absolute deviation in place of the standard deviation.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

import math

import torch
from torch import Tensor

from bncore.norm.lp_batch_norm import NormBatchNorm, channel_means


class L1BatchNorm(NormBatchNorm):
    """Batch normalization that sums magnitudes where batch norm sums squares, which low precision holds more easily.

    Training: `y = weight * (x - mean) / sqrt(norm^2 + eps) + bias` with `norm = sqrt(pi / 2) * mean |x - mean|` per
    channel (C,), over all other axes: for normally distributed values, the standard deviation. Input and output:
    (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: the norm, and the running quantity: the norm is averaged, and kept under
    torch's key as `running_var = norm^2`, without the unbiasing factor; so evaluation is plain batch norm and keys are
    those of torch. The gradient of a magnitude at 0 is taken as 0. eps is added to the square of the norm, as batch
    norm adds it to the square of the standard deviation.

    arXiv 1803.01814; the same idea without the factor is arXiv 1802.09769.

    Args:
        num_features: C.
        eps: added to the square of the norm.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: from the forward pass as `BatchNorm`.
    """

    _before_centring = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )

    def _squared_norm(self, x: Tensor) -> Tensor:
        return channel_means(x.abs()).square() * (math.pi / 2)
