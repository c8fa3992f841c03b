"""EvoNorms: normalization and activation in one formula, found by search.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor, nn

from bncore.norm._affine import Affine, scale_and_shift
from bncore.norm._instance_and_batch import InstanceAndBatch
from bncore.norm._moments import along_channels
from bncore.norm._sample_statistics import Instances, Spread, instances, pooled, rescale
from bncore.norm.batch_norm import check_rank
from bncore.norm.group_norm import check_groups


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

    arXiv 2004.02967, table 2 and appendix A.

    Args:
        num_features: C.
        eps: added to both variances.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

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
    ) -> None:
        super().__init__(num_features, eps, momentum, nan_guard=nan_guard, device=device, dtype=dtype)
        self.v = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, v 1; statistics as in `torch.nn.BatchNorm*`."""
        super().reset_parameters()
        # Torch's constructor calls this when there is no v yet.
        if "v" in self._parameters:
            nn.init.ones_(self.v)

    def _combine(self, instance: Instances, batch: Spread) -> Tensor:
        x = instance.values
        by_instance = x * along_channels(self.v, x) + (instance.var + self.eps).sqrt()
        y = x / torch.maximum(by_instance, (batch.var + self.eps).sqrt())
        return scale_and_shift(y, self.weight, self.bias)


class EvoNormS0(Affine):
    """Swish with a learned slope, divided by the standard deviation of a group of channels of the sample.

    `y = weight * x * sigmoid(v * x) / sqrt(var + eps) + bias` with the biased variance (N, G) over the C / G channels
    of a group and all positions, and `weight`, `bias`, `v` (C,). It needs no activation behind it; training and
    evaluation are alike. Input and output: (N, C, ...).

    There is nothing like it in torch. A group of a single value, whose variance is 0, is refused.

    arXiv 2004.02967, table 2 and appendix A.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        eps: added to the variance.

    Raises:
        ValueError: for groups that do not divide the channels; from the forward pass for input without batch axis and
            for one value per group.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_groups(num_features, num_groups)
        super().__init__(num_features, eps, affine=True, device=device, dtype=dtype)
        self.num_groups = num_groups
        self.v = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, v 1."""
        super().reset_parameters()
        nn.init.ones_(self.v)

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x)
        size = self.num_features // self.num_groups
        if size * x.shape[2:].numel() == 1:
            raise ValueError(f"Expected more than 1 value per group, got input size {tuple(x.shape)}; use fewer groups")
        instance = instances(x)
        grouped = (self.num_groups, size)
        group = pooled(Spread(instance.mean.unflatten(1, grouped), instance.var.unflatten(1, grouped)), 2)
        scale = (group.var + self.eps).rsqrt().expand(-1, -1, size, *(1,) * (x.dim() - 2)).flatten(1, 2)
        swish = instance.values * (instance.values * along_channels(self.v, x)).sigmoid()
        return rescale(swish, scale, None, self.weight, self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}"
