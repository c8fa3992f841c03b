"""A batch seen in parts: how the moments of the parts become those of the whole, and gradients of any order.

The parts are slices of the batch, or the processes that share it. A part without values has mean 0 and variance 0; it
changes nothing.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def merge_parts(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and count () of P parts together, from means and variances (P, C), counts (P,).

    The update of Chan, Golub and LeVeque (1979, eq. 2.1) for all parts at once: distances to the mean of the largest
    part are added, not the means themselves, so that a large mean costs no digits.
    """
    if len(counts) == 1:
        return means[0], variances[0], counts[0]
    total = counts.sum()
    share = (counts / total.clamp(min=1)).unsqueeze(1)
    pivot = means.index_select(0, counts.argmax().view(1))
    mean = pivot + ((means - pivot) * share).sum(0, keepdim=True)
    var = ((variances + (means - mean).square()) * share).sum(0)
    return mean.squeeze(0), var, total


def differentiable_gradients(
    compute: Callable[..., Tensor], inputs: Sequence[Tensor | None], wanted: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of `compute(*inputs)` with respect to the inputs wanted, themselves differentiable to any order.

    For the backward pass of a layer whose own backward pass is made of kernels without derivatives: with
    `create_graph=True`, it computes its output once more in primitive operations.
    """
    # Aliases: hooks on the inputs themselves must see the gradient once, from the outer backward pass.
    aliases = [None if tensor is None else tensor.view_as(tensor) for tensor in inputs]
    chosen = [alias for alias, want in zip(aliases, wanted, strict=True) if alias is not None and want]
    found = iter(torch.autograd.grad(compute(*aliases), chosen, grad, create_graph=True))
    return [next(found) if want else None for want in wanted]
