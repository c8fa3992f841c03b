"""Adaptive gradient clipping: no unit moves far, measured by the size of its weights.

Everything stays on the device: no norm is read back.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from bncore.norm._moments import statistics_dtype
from bncore.norm._torch import clamp_max_all_, clamp_min_all_, divide_all_, multiply_all_


@torch.no_grad()
def adaptive_clip_grad_(parameters: Tensor | Iterable[Tensor], clipping: float = 0.01, eps: float = 1e-3) -> None:
    """Shrink the gradient of each unit, in place, to at most `clipping` times the norm of the unit's weights.

    `G_i <- G_i * min(1, clipping * max(|W_i|, eps) / |G_i|)` with the 2-norm over the weights of unit i: a weight
    (O, I, ...) has O units along axis 0. A scalar or vector, also one with further axes of size 1 like the lengths of
    weight norm, is one unit as a whole, as in the authors' code. Parameters without gradient are left out.

    Difference from `torch.nn.utils.clip_grad_norm_`: a limit for every unit by itself instead of one for all, and
    nothing is returned. A transposed convolution (I, O, ...) is taken along axis 0 as well, by its inputs: the layer
    cannot be seen from its parameter. The paper does not clip the last, linear layer: leave it out of `parameters`. A
    gradient that is not finite leaves NaN in its unit.

    arXiv 2102.06171, eq. 3.

    Args:
        parameters: what is clipped.
        clipping: the paper's lambda: 0.01 for its networks and batches of 4096, more for smaller ones.
        eps: lower bound of the weights' norm: a unit at 0 could not leave it otherwise.

    Raises:
        ValueError: for a negative `clipping`, which would turn gradients around.
    """
    if not clipping >= 0.0:
        raise ValueError(f"clipping must be at least 0, got {clipping}")
    # Each once: twice clipped, the gradient of a tied weight would be a hundredth of a hundredth.
    given = [parameters] if isinstance(parameters, Tensor) else list(dict.fromkeys(parameters))
    weights = [parameter for parameter in given if parameter.grad is not None]
    if not weights:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    factors = _unit_norms(weights)
    clamp_min_all_(factors, eps)
    multiply_all_(factors, clipping)
    # A gradient of 0 gives infinity here, and 1 in the next line.
    divide_all_(factors, _unit_norms(gradients))
    clamp_max_all_(factors, 1.0)
    multiply_all_(gradients, factors)


def _unit_norms(tensors: list[Tensor]) -> list[Tensor]:
    """The norm of each unit, shaped to broadcast; half-precision tensors are measured in float32."""
    norms = []
    for tensor in tensors:
        whole = max(tensor.shape, default=1) == tensor.numel()
        axes = None if whole else tuple(range(1, tensor.dim()))
        dtype = statistics_dtype(tensor.dtype)
        norms.append(torch.linalg.vector_norm(tensor, dim=axes, keepdim=not whole, dtype=dtype))
    return norms
