"""Group normalization over the channels of a group and all positions of a sample.

Shapes: N examples, C channels (axis 1) in G groups of neighbours, any further axes are positions.
"""

import torch
from torch import Tensor

from bncore.norm._affine import Affine, scale_and_shift
from bncore.norm._dispatch import may_use_native
from bncore.norm._moments import moments
from bncore.norm._native import scale_beside
from bncore.norm.batch_norm import check_channels


class GroupNorm(Affine):
    """Standardizes each group of channels of each sample, in training and evaluation alike.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (N, G) over the C / G channels of a
    group and all positions, and `weight`, `bias` (C,). Input and output: (N, C, ...).

    Difference from `torch.nn.GroupNorm`: the number of channels comes first and the number of groups has the paper's
    default. Half-precision input goes with single-precision parameters on every device, the memory format is kept on
    every device, and derivatives of every order are right under `torch.func` transforms and forward-mode
    differentiation. The numbers and keys are the same. As there, groups of a single value are refused when the batch is
    one sample, and otherwise erased: the output is `bias`. On CPUs, torch's kernel for channels_last images loses all
    digits where a mean is 1e4 times the spread or more, and so does this layer: give it contiguous input then.

    arXiv 1803.08494, eq. 7.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        eps: added to the variance.
        affine: learn `weight` and `bias`.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: for groups that do not divide the channels; from the forward pass for input without batch axis, with
            another number of channels or not of floating point, and for one sample with one value per group.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_groups(num_features, num_groups)
        super().__init__(num_features, eps, affine, device=device, dtype=dtype, bias=bias)
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.num_features)
        if x.numel() == self.num_groups:
            shape, groups = tuple(x.shape), self.num_groups
            raise ValueError(f"Expected more than 1 value per group, got input size {shape} in {groups} groups")
        return standardize_groups(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}"


def check_groups(num_features: int, num_groups: int) -> None:
    """Raise ValueError unless the channels fall into groups of equal size."""
    if num_groups < 1 or num_features % num_groups:
        raise ValueError(f"{num_groups} groups do not divide {num_features} channels")


def standardize_groups(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`weight * (x - mean) / sqrt(var + eps) + bias` with statistics of each group of channels of each sample."""
    if not may_use_native(x):
        return _standardize_primitive(x, groups, weight, bias, eps)
    y = torch.group_norm(as_wide_as(weight, x), groups, scale_beside(bias, weight), bias, eps)
    return y.to(x.dtype).contiguous(memory_format=memory_format_of(x))


def as_wide_as(weight: Tensor | None, x: Tensor) -> Tensor:
    """`x` in the precision of the parameters: on GPUs the kernels take input and parameters of one type only."""
    return x if weight is None else x.to(torch.promote_types(x.dtype, weight.dtype))


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The layout that a layer has to keep."""
    if x.is_contiguous() or x.dim() not in (4, 5):
        return torch.contiguous_format
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def _standardize_primitive(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    grouped = x.unflatten(1, (groups, x.shape[1] // groups))
    group = moments(grouped, range(2, grouped.dim()))
    y = (grouped.to(group.mean.dtype) - group.mean) * (group.var + eps).rsqrt()
    return scale_and_shift(y.flatten(1, 2), weight, bias).to(x.dtype)
