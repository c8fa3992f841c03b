"""Batch-instance normalization: a learned gate per channel between batch and instance normalization.

Shapes: N examples, C channels (axis 1), further axes are positions, of which there is more than one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._dispatch import may_use_native
from bncore.norm._instance_and_batch import InstanceAndBatch
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels
from bncore.norm._override import refuse_to_export
from bncore.norm._rescale import standardize_instances
from bncore.norm._sample_statistics import Spread
from bncore.norm.instance_norm import check_more_than_one_position


class BatchInstanceNorm(InstanceAndBatch):
    """Mixes the batch-normalized and the instance-normalized input, channel by channel.

    Training: `y = weight * (rho * x_batch + (1 - rho) * x_instance) + bias`, with x standardized by mean and biased
    variance of the batch (C,) and of the instance (N, C), and `rho = clip(gate, 0, 1)`, where `gate`, `weight`, `bias`
    are (C,) and `gate` starts at 1: batch normalization. Evaluation: the same with the running statistics in place of
    the batch's. Input and output: (N, C, ...) with more than one position.

    The paper clips the gate itself after each step of the optimizer. Here the forward pass clips, so that the training
    loop needs no hook: a gate outside of 0 to 1 counts as the nearer end, and takes from the backward pass only what
    would move it back. Inside, the gradient is the usual one. Forward mode has the derivative of the clipping itself;
    so would an exported program, for which reason the layer can be exported for evaluation only.

    Difference from `torch.nn.BatchNorm*`: the gate. The running statistics and their keys are the same. A single
    position is refused in training and evaluation alike, as in `InstanceNorm`.

    arXiv 1805.07925, section 3.

    Args:
        num_features: C.
        eps: added to both variances.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias`; the gate is always learned.
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: from the forward pass, for input without batch axis and for a single position.
        RuntimeError: from `torch.export`, in training mode.
    """

    gate: nn.Parameter

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
        self.gate = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, gate 1; statistics as in `torch.nn.BatchNorm*`."""
        super().reset_parameters()
        # Torch's constructor calls this when there is no gate yet.
        if "gate" in self._parameters:
            nn.init.ones_(self.gate)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_more_than_one_position(x)
        return super().forward(x)

    def _combine(self, x: Tensor, instance: Spread, batch: Spread) -> Tensor:
        """Both normalizations scale and shift the instance's centred values, and so does their mixture."""
        if self.training:
            refuse_to_export()
        rho = along_channels(_clip(self.gate.to(instance.var.dtype)), x)
        by_batch = rho * (batch.var + self.eps).rsqrt()
        by_instance = (1.0 - rho) * (instance.var + self.eps).rsqrt()
        shift = instance.above(batch) * by_batch
        return standardize_instances(x, instance, by_batch + by_instance, shift, self.weight, self.bias)


def _clip(gate: Tensor) -> Tensor:
    # The compiler cannot look into a function with a rule for forward mode.
    function = _Clip if may_use_native(gate) else _ClipWithForwardMode
    clipped: Tensor = function.apply(gate)
    return clipped


class _Clip(torch.autograd.Function):
    """Clip to 0 to 1; outside, gradient descent can move a value back but not further out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gate: Tensor) -> Tensor:
        return gate.clamp(0.0, 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        gate: Tensor = ctx.saved_tensors[0]
        (grad,) = grads
        # Descent moves against the gradient.
        outwards = ((gate > 1.0) & (grad < 0.0)) | ((gate < 0.0) & (grad > 0.0))
        return torch.where(outwards, torch.zeros_like(grad), grad)


class _ClipWithForwardMode(_Clip):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        gate: Tensor = ctx.saved_tensors[0]
        return tangents[0] * ((gate >= 0.0) & (gate <= 1.0))
