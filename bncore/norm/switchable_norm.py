"""Switchable normalization: a learned mixture of instance, layer and batch statistics.

Shapes: N examples, C channels (axis 1), further axes are positions, of which there is more than one.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._instance_and_batch import InstanceAndBatch
from bncore.norm._leaf import as_leaf
from bncore.norm._rescale import standardize_instances
from bncore.norm._sample_statistics import Spread, pooled
from bncore.norm.instance_norm import check_more_than_one_position


class SwitchableNorm(InstanceAndBatch):
    """Standardizes with means and variances that are mixed from those of the instance, the sample and the batch.

    Training: `y = weight * (x - sum_k w_k mean_k) / sqrt(sum_k u_k var_k + eps) + bias`, k running over the instance
    (N, C), the layer (N,) and the batch (C,), with `w = softmax(mean_weight)`, `u = softmax(var_weight)`, both (3,) in
    that order and one for all channels. All variances in the mixture are biased. Evaluation: the same with the running
    statistics in place of the batch's. Input and output: (N, C, ...) with more than one position.

    Difference from `torch.nn.BatchNorm*`: the mixture. The running statistics are torch's, which start at mean 0 and
    variance 1 and average the unbiased variance; the paper rather averages over batches once training has ended, which
    `recalibrate` does. A single position is refused in training and evaluation alike: the instance's variance would be
    0, and its mean would erase the input.

    arXiv 1806.10779, section 2.

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias`; the mixture is always learned.
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: from the forward pass, for input without batch axis and for a single position.
    """

    mean_weight: nn.Parameter
    var_weight: nn.Parameter

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
        self.mean_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, a third of each; statistics as in `torch.nn.BatchNorm*`."""
        super().reset_parameters()
        # Torch's constructor calls this when there is no mixture yet.
        if "var_weight" in self._parameters:
            nn.init.ones_(self.mean_weight)
            nn.init.ones_(self.var_weight)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_more_than_one_position(x)
        return super().forward(x)

    def _combine(self, x: Tensor, instance: Spread, batch: Spread) -> Tensor:
        layer = pooled(instance, 1)
        of_instance, of_layer, of_batch = _shares(self.var_weight, instance.var)
        scale = (of_instance * instance.var + of_layer * layer.var + of_batch * batch.var + self.eps).rsqrt()
        # The instance's mean minus the mixed one. The shares add up to 1, so that only differences of means are mixed,
        # and not the means, which may be large beside them.
        _, of_layer, of_batch = _shares(self.mean_weight, instance.var)
        away = of_layer * instance.above(layer) + of_batch * instance.above(batch)
        return standardize_instances(x, instance, scale, away * scale, self.weight, self.bias)


def _shares(logits: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    return logits.to(like.dtype).softmax(0).unbind()
