"""EvoNorms: normalization and activation in one formula, found by search.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._affine import Affine, is_empty, pass_empty, scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import times_
from bncore.norm._instance_and_batch import InstanceAndBatch
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels
from bncore.norm._override import apply
from bncore.norm._sample_statistics import Spread, instances, pooled, spelled_out
from bncore.norm.group_norm import check_groups, check_more_than_one_value_per_group


class EvoNormB0(InstanceAndBatch):
    """Divides by the larger of two deviations: the batch's, and the instance's plus a learned multiple of x.

    `y = weight * x / max(sqrt(var_batch + eps), v * x + sqrt(var_instance + eps)) + bias` with the biased variances
    `var_batch` (C,) over samples and positions and `var_instance` (N, C) over positions, and `weight`, `bias`, `v`
    (C,). It needs no activation behind it. Evaluation: the same with the running variance for `var_batch`. Input and
    output: (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: the formula, in training and evaluation; `v`. The running statistics are
    torch's, the unbiased variance included, so that they can be handed on to a batch norm; the running mean is kept for
    that alone. The paper's code averages the biased variance. With one position the instance's variance is 0, and the
    layer still works.

    arXiv 2004.02967, layer B0.

    Args:
        num_features: C.
        eps: added to both variances.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        bias: learn `bias`; it is None otherwise.

    Raises:
        ValueError: from the forward pass as `BatchNorm`.
    """

    v: nn.Parameter

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias)
        self.v = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, v 1; statistics as in `torch.nn.BatchNorm*`."""
        super().reset_parameters()
        # Torch's constructor calls this when there is no v yet.
        if "v" in self._parameters:
            nn.init.ones_(self.v)

    def _combine(self, x: Tensor, instance: Spread, batch: Spread) -> Tensor:
        of_instance, of_batch = (instance.var + self.eps).sqrt(), (batch.var + self.eps).sqrt()
        assert self.weight is not None
        v, weight = (along_channels(one.to(of_batch.dtype), x) for one in (self.v, self.weight))
        bias = None if self.bias is None else along_channels(self.bias.to(of_batch.dtype), x)
        # The larger one is relu(difference) + one of them: the derivative of max itself takes four times as long.
        difference = of_instance - of_batch
        if spelled_out(x):
            y = x / ((x * v + difference).relu() + of_batch) * weight
            return y if bias is None else y + bias
        divided: Tensor = apply(_DivideByLarger, x, v, difference, of_batch, weight, bias)
        return divided


class EvoNormS0(Affine):
    """Swish with a learned slope, divided by the standard deviation of a group of channels of the sample.

    `y = weight * x * sigmoid(v * x) / sqrt(var + eps) + bias` with the biased variance (N, G) over the C / G channels
    of a group and all positions, and `weight`, `bias`, `v` (C,). It needs no activation behind it; training and
    evaluation are alike. Input and output: (N, C, ...).

    There is nothing like it in torch. A group of a single value, whose variance is 0, is refused.

    arXiv 2004.02967, layer S0.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        eps: added to the variance.
        bias: learn `bias`; it is None otherwise.

    Raises:
        ValueError: for groups that do not divide the channels; from the forward pass for input without batch axis, with
            another number of channels or not of floating point, and for one value per group.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_groups(num_features, num_groups)
        super().__init__(num_features, eps, affine=True, device=device, dtype=dtype, bias=bias)
        self.num_groups = num_groups
        self.v = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, v 1."""
        super().reset_parameters()
        nn.init.ones_(self.v)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        check_more_than_one_value_per_group(x, self.num_groups)
        if is_empty(x):
            return pass_empty(x, self.parameters())
        size = self.num_features // self.num_groups
        instance = instances(x)
        grouped = (self.num_groups, size)
        of_channel = (part.unflatten(1, grouped) for part in (instance.origin, instance.offset, instance.var))
        group = pooled(Spread(*of_channel), 2)
        scale = (group.var + self.eps).rsqrt().expand(-1, -1, size, *(1,) * (x.dim() - 2)).flatten(1, 2)
        scale = scale_and_shift(scale, self.weight, None)
        v = along_channels(self.v.to(scale.dtype), x)
        bias = None if self.bias is None else along_channels(self.bias.to(scale.dtype), x)
        if spelled_out(x):
            y = x * (x * v).sigmoid() * scale
            return (y if bias is None else y + bias).to(x.dtype)
        swish: Tensor = apply(_Swish, x, v, scale, bias)
        return swish.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}, bias={self.bias is not None}"


class _DivideByLarger(torch.autograd.Function):
    """`x / (relu(x v + difference) + other) * scale + shift`; keeps x alone, and few tensors of its size at a time.

    The backward pass is made of differentiable operations on the inputs, so further derivatives are right; likewise
    below.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v: Tensor, difference: Tensor, other: Tensor, scale: Tensor, shift: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, v, difference, other, scale)
        larger = (x * v).add_(difference).relu_().add_(other)
        y = (x / larger).mul_(scale)
        return y if shift is None else y.add_(shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, v, difference, other, scale = ctx.saved_tensors
        (grad,) = grads
        above = (x * v).add_(difference)
        larger = above.relu() + other
        ratio = x / larger
        into_x = (grad * scale).div_(larger)
        into_larger = -into_x * ratio
        into_above = into_larger * (above > 0.0)
        return (
            torch.addcmul(into_x, into_above, v).to(x.dtype),
            (into_above * x).sum_to_size(v.shape),
            into_above.sum_to_size(difference.shape),
            into_larger.sum_to_size(other.shape),
            (grad * ratio).sum_to_size(scale.shape),
            grad.sum_to_size(scale.shape) if ctx.needs_input_grad[5] else None,
        )


class _Swish(torch.autograd.Function):
    """`x sigmoid(x v) scale + shift`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, v, scale)
        y = (x * v).sigmoid_().mul_(x).mul_(scale)
        return y if shift is None else y.add_(shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, v, scale = ctx.saved_tensors
        (grad,) = grads
        gate = (x * v).sigmoid()
        swish = x * gate
        slope = torch.addcmul(swish, swish, gate, value=-1.0)
        into_swish = grad * scale
        return (
            times_(torch.addcmul(gate, slope, v), into_swish).to(x.dtype),
            (into_swish * x).mul_(slope).sum_to_size(v.shape),
            (swish * grad).sum_to_size(scale.shape),
            grad.sum_to_size(v.shape) if ctx.needs_input_grad[3] else None,
        )
