"""Group normalization over the channels of a group and all positions of a sample.

Shapes: N examples, C channels (axis 1) in G groups of neighbours, any further axes are positions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine, is_empty, scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import can_be_asked, may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import moments
from bncore.norm._native import are_taken_as_they_are, in_one_piece, scale_beside
from bncore.norm._override import apply
from bncore.norm._torch import is_tracing, is_undisturbed

_LARGE = 4.0
"""Of a mean beside the spread. At 4, the kernel for channels_last is off by 1e-5 where the spread is 1."""

_MANY = 2**16
"""Of values in a group. With so many, the same kernel is off by 1e-5 to 1e-4 whatever their mean."""


class GroupNorm(Affine):
    """Standardizes each group of channels of each sample, in training and evaluation alike.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (N, G) over the C / G channels of a
    group and all positions, and `weight`, `bias` (C,). Input and output: (N, C, ...).

    Difference from `torch.nn.GroupNorm`: the number of channels comes first and the number of groups has the paper's
    default. Half-precision input goes with single-precision parameters on every device, the memory format is kept on
    every device, and derivatives of every order are right under `torch.func` transforms and forward-mode
    differentiation. Groups of a single value, which would be erased, are refused whatever the batch; there they are if
    the batch is one sample. The numbers and keys are the same, but for large means in channels_last on CPUs: torch's
    kernel takes the variance as a difference of sums there, and with a mean of 100, 1000 or 10,000 times the spread its
    output is off by 0.01, 1 or 1000. This layer looks at the means and, where one is more than 4 times the spread, runs
    the kernel once more on the batch less its means. That takes twice the time forwards, and is more exact than the
    kernel for contiguous input, by which groups of more than 65,536 values are normalized.

    arXiv 1803.08494, eq. 7.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        eps: added to the variance.
        affine: learn `weight` and `bias`.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: for groups that do not divide the channels; from the forward pass for input without batch axis, with
            another number of channels or not of floating point, and for one value per group.
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
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        groups = self.num_groups
        check_channels(x, self.num_features)
        if groups == self.num_features:
            check_more_than_one_value_per_group(x, groups)
        weight, bias = self._scale_and_shift()
        if x.numel() > 0 and is_undisturbed(x) and x.is_contiguous() and are_taken_as_they_are(x.dtype, weight, bias):
            return torch.group_norm(x, groups, weight, bias, self.eps)
        return standardize_groups(x, groups, weight, bias, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}"


def check_groups(num_features: int, num_groups: int) -> None:
    """Raise ValueError unless the channels fall into groups of equal size."""
    if num_groups < 1 or num_features % num_groups:
        raise ValueError(f"{num_groups} groups do not divide {num_features} channels")


def check_more_than_one_value_per_group(x: Tensor, num_groups: int) -> None:
    """Raise ValueError for groups of one channel with one position: less its mean, a single value is 0."""
    # Traced, sizes are tensors, and to ask one is a warning.
    if not is_tracing() and num_groups == x.shape[1] and all(length == 1 for length in x.shape[2:]):
        raise ValueError(f"Expected more than 1 value per group, got input size {tuple(x.shape)}; use fewer groups")


def standardize_groups(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`weight * (x - mean) / sqrt(var + eps) + bias` with statistics of each group of channels of each sample."""
    if is_empty(x):
        return scale_and_shift(x, weight, bias).to(x.dtype)
    if not may_use_native(x):
        return _standardize_primitive(x, groups, weight, bias, eps)
    wide, scale, shift = of_one_type(x, scale_beside(bias, weight), bias)
    if _is_summed_carelessly(wide) and can_be_asked(x) and x.shape[1:].numel() > groups * _MANY:
        wide = wide.contiguous()
    standardize = _standardize_checked if _is_summed_carelessly(wide) else torch.group_norm
    y = standardize(wide, groups, scale, shift, eps)
    return y.to(x.dtype).contiguous(memory_format=memory_format_of(x))


def of_one_type(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """All in the widest type among them: on GPUs the kernels take input and parameters of one type only."""
    if weight is None or (weight.dtype is x.dtype and (bias is None or bias.dtype is x.dtype)):
        return x, weight, bias
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The layout that a layer has to keep."""
    if x.is_contiguous() or x.dim() not in (4, 5):
        return torch.contiguous_format
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    # By its name, the format cannot be asked for where vmap is compiled.
    return last if x.movedim(1, -1).is_contiguous() else torch.contiguous_format


def _is_summed_carelessly(x: Tensor) -> bool:
    """Whether the kernel takes the variance of `x` as a difference of large sums: that of CPUs for channels_last."""
    return x.dim() in (4, 5) and not x.is_contiguous() and x.device.type == "cpu"


def _standardize_checked(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """The kernel's output where the means that it gives with it are small enough beside the spread.

    Else, and where no number can be asked for, that of the batch less those means, which are constants: a constant
    changes neither output nor gradient.
    """
    laid_out = _with_gradient_beside(x.contiguous(memory_format=memory_format_of(x)), weight, bias)
    sizes = x.shape[0], x.shape[1], x.shape[2:].numel()
    weight, bias = in_one_piece(weight), in_one_piece(bias)
    y, mean, inverse_sigma = torch.native_group_norm(laid_out, weight, bias, *sizes, groups, eps)
    mean, inverse_sigma = mean.detach(), inverse_sigma.detach()
    # NaN is left to the kernel.
    if can_be_asked(x) and not bool(((mean * inverse_sigma).abs() > _LARGE).any()):
        return y
    of_channels = mean.repeat_interleave(x.shape[1] // groups, 1)
    centred = laid_out - of_channels.view(*sizes[:2], *(1,) * (x.dim() - 2))
    return torch.native_group_norm(centred, weight, bias, *sizes, groups, eps)[0]


def _with_gradient_beside(x: Tensor, *vectors: Tensor | None) -> Tensor:
    """`x`, whose gradient is taken wherever that of a vector is.

    Of channels_last, torch's kernel on CPUs writes the gradient of the input whether it is wanted or not: where it is
    not, to no memory, and the process ends.
    """
    wanting = [one for one in vectors if one is not None and one.requires_grad]
    return apply(_Beside, x, *wanting) if wanting and torch.is_grad_enabled() and can_be_asked(x) else x


class _Beside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *vectors: Tensor) -> Tensor:
        ctx.others = len(vectors)
        # Not `view_as`: of a single example it gives the first axis another stride, and the kernel another layout.
        return x.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], *[None] * ctx.others


def _standardize_primitive(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    grouped = x.unflatten(1, (groups, x.shape[1] // groups))
    group = moments(grouped, range(2, grouped.dim()))
    y = (grouped.to(group.mean.dtype) - group.mean) * (group.var + eps).rsqrt()
    return scale_and_shift(y.flatten(1, 2), weight, bias).to(x.dtype)
