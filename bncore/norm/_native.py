"""torch's kernels that normalize by the statistics of their input, kept to what their derivatives are right for.

Their third derivative by reverse mode is another number: the second takes mean and deviation for constants (pytorch
186256). It cannot be told beforehand that one will be wanted, so each output is watched by hooks, which cost a
microsecond until a backward pass builds a graph; then the outputs of the second such pass end in an error.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._moments import statistics_dtype

Gradients = tuple[Tensor | None, ...]


def batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Batch norm of (N, C, ...) in training, which moves the vectors `mean` and `var` (C,) where they are given.

    Those have to be of a type that the kernel takes; scale and shift may be of any.

    Raises:
        RuntimeError: from the backward pass that would give a third derivative.
    """
    weight = scale_beside(bias, weight)
    if not takes(x, weight, bias):
        weight, bias = as_taken(x, weight, bias)
    enabled = torch.backends.cudnn.enabled
    return right_to_second_order(torch.batch_norm(x, weight, bias, mean, var, True, momentum, eps, enabled))


def evaluate_batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Batch norm of (N, C, ...) by the statistics `mean` and `var` (C,), all vectors of any type."""
    weight = scale_beside(bias, weight)
    if not takes(x, mean, var, weight, bias):
        mean, var = mean.to(statistics_dtype(x.dtype)), var.to(statistics_dtype(x.dtype))
        weight, bias = as_taken(x, weight, bias)
    return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled)


def takes(x: Tensor, *vectors: Tensor | None) -> bool:
    """Whether a kernel takes these vectors beside `x`: all of the type of `x`, or of that of its statistics."""
    dtypes = {vector.dtype for vector in vectors if vector is not None}
    return len(dtypes) < 2 and dtypes <= {x.dtype, statistics_dtype(x.dtype)}


def as_taken(x: Tensor, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The vectors in the type of the statistics of `x`; gradients go back into theirs."""
    return tuple(None if vector is None else vector.to(statistics_dtype(x.dtype)) for vector in vectors)


def scale_beside(bias: Tensor | None, weight: Tensor | None) -> Tensor | None:
    """The scale for a kernel: ones where there is a shift alone, with which their second derivatives do not run."""
    return torch.ones_like(bias) if weight is None and bias is not None else weight


def right_to_second_order(y: Tensor) -> Tensor:
    """`y`, which has to be the output of a kernel itself: derivatives of it beyond the second raise RuntimeError."""
    # Only of a tensor: what traces a program by its operations would write the hook down.
    if not torch.compiler.is_compiling() and isinstance(y, Tensor) and y.grad_fn is not None:
        y.grad_fn.register_hook(_watch_first)
    return y


def _watch_first(into: Gradients, _from: Gradients) -> None:
    """After a first backward pass through the kernel: watch the second, if there is to be one."""
    if not torch.is_grad_enabled():
        return
    nodes = (grad.grad_fn for grad in into if grad is not None)
    node = next((node for node in nodes if node is not None), None)
    if node is not None:
        # One node gives all of them.
        node.register_hook(_end_second)


def _end_second(into: Gradients, _from: Gradients) -> Gradients | None:
    if not torch.is_grad_enabled():
        return None
    return tuple(None if grad is None else _End.apply(grad) for grad in into)


class _End(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, grad: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(_ctx: Any, *_grads: Tensor) -> Tensor:
        raise RuntimeError(
            "the third derivative of torch's kernel for normalization is wrong; under torch.func (grad of grad of "
            "grad, jvp) the layer is made of primitive operations, and derivatives of every order are right"
        )
