"""torch's kernels that normalize by the statistics of their input, kept to what their derivatives are right for.

Their third derivative by reverse mode is another number: the second takes mean and deviation for constants (pytorch
186256). It cannot be told beforehand that one will be wanted, so each output is watched by a hook. Until a backward
pass builds a graph, that costs three microseconds, most of them in the backward pass; the gradients of the second such
pass end in an error.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import unserializable_hook

from bncore.norm._moments import statistics_dtype
from bncore.norm._torch import autograd_node, cudnn_enabled, cudnn_flag, native_batch_norm, output_hook

Gradients = tuple[Tensor | None, ...]
_WATCHES = ContextVar("_WATCHES", default=True)


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
    if not takes(x, weight, bias):
        weight, bias = as_taken(x, weight, bias)
    return batch_norm_of_one_type(x, mean, var, weight, bias, momentum, eps)


def batch_norm_of_one_type(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """`batch_norm` of vectors that the kernel `takes`."""
    weight = in_one_piece(scale_beside(bias, weight))
    return right_to_second_order(torch.batch_norm(x, weight, bias, mean, var, True, momentum, eps, cudnn_enabled()))


def batch_norm_at_once(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.batch_norm` of a batch (N, C, ...) that is not empty, where nothing is compiled; nothing watches it.

    What torch asks for in between takes as long as all that a layer asks for itself.
    """
    channels = x.shape[1]
    of_one_size = mean.numel() == channels == var.numel() and (weight is None or weight.numel() == channels)
    if of_one_size and (bias is None or bias.numel() == channels) and x.is_cpu:
        return native_batch_norm(x, weight, bias, mean, var, training, momentum, eps)[0]
    return torch.batch_norm(x, weight, bias, mean, var, training, momentum, eps, cudnn_flag())


def evaluate_batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Batch norm of (N, C, ...) by the statistics `mean` and `var` (C,), all vectors of any type."""
    weight = scale_beside(bias, weight)
    if not takes(x, mean, var, weight, bias):
        mean, var = mean.to(statistics_dtype(x.dtype)), var.to(statistics_dtype(x.dtype))
        weight, bias = as_taken(x, weight, bias)
    weight = in_one_piece(weight)
    return torch.batch_norm(x, weight, bias, packed(mean), packed(var), False, 0.0, eps, cudnn_enabled())


def takes(x: Tensor, *vectors: Tensor | None) -> bool:
    """Whether a kernel takes these vectors beside `x`: all of the type of `x`, or of that of its statistics."""
    dtype = x.dtype
    for vector in vectors:
        if vector is not None and vector.dtype is not dtype:
            wide = statistics_dtype(dtype)
            return all(one is None or one.dtype == wide for one in vectors)
    return True


def are_taken_as_they_are(dtype: torch.dtype, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether scale and shift, where there are any, are of this type and `packed`, and no shift is without a scale."""
    if weight is None:
        return bias is None
    if weight.dtype is not dtype or not weight.is_contiguous():
        return False
    return bias is None or (bias.dtype is dtype and bias.is_contiguous())


def as_taken(x: Tensor, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The vectors in the type of the statistics of `x`; gradients go back into theirs."""
    return tuple(None if vector is None else vector.to(statistics_dtype(x.dtype)) for vector in vectors)


def scale_beside(bias: Tensor | None, weight: Tensor | None) -> Tensor | None:
    """The scale for a kernel: ones where there is a shift alone, with which their second derivatives do not run."""
    return torch.ones_like(bias) if weight is None and bias is not None else weight


def in_one_piece(vector: Tensor | None) -> Tensor | None:
    """The vector as `packed`, where there is one."""
    return None if vector is None else packed(vector)


def packed(vector: Tensor) -> Tensor:
    """The vector with its numbers one behind the other.

    torch's backward pass for batch norm on CPUs, and its group norm, read so many numbers from where a vector begins:
    of one that is a part of something larger, such as a column, other numbers, without a word.
    """
    return vector if vector.is_contiguous() else vector.contiguous()


@contextmanager
def first_derivatives_only() -> Iterator[None]:
    """Within it, forward passes of this thread do not watch for third derivatives, of which nobody takes any.

    That saves a layer that wraps one of torch's kernels three microseconds a step, a percent of a small network's. A
    third derivative by reverse mode of what was computed within is a wrong number, as with torch's own layers; first
    and second derivatives are right.
    """
    token = _WATCHES.set(False)
    try:
        yield
    finally:
        _WATCHES.reset(token)


def right_to_second_order(y: Tensor) -> Tensor:
    """`y`, which has to be the output of a kernel itself: derivatives of it beyond the second raise RuntimeError."""
    # Only of a tensor: what traces a program by its operations would write the hook down.
    if torch.compiler.is_compiling() or not isinstance(y, Tensor):
        return y
    return watched(y)


def watched(y: Tensor) -> Tensor:
    """`right_to_second_order` of a tensor, where nothing is compiled."""
    if _WATCHES.get() and (node := y.grad_fn) is not None:
        if type(y) is Tensor:
            _watch_output_of(node)
        else:
            y.register_hook(_watch)
    return y


def watched_behind_view(y: Tensor) -> Tensor:
    """`watched`, of a plain tensor that is a view of a kernel's output."""
    if _WATCHES.get() and (view := y.grad_fn) is not None:
        _watch_output_of(view.next_functions[0][0])
    return y


def together_right_to_second_order(parts: list[Tensor]) -> Tensor:
    """Outputs of kernels put together along the first axis; of each, derivatives beyond the second raise RuntimeError.

    By one hook for all of them, which is called before the backward pass gets to the kernels. Nothing is compiled.
    """
    y = torch.cat(parts)
    if _WATCHES.get() and (node := y.grad_fn) is not None:
        if type(y) is Tensor:
            _watch_parts_of(node)
        else:
            y.register_hook(_watch_parts)
    return y


@unserializable_hook  # type: ignore[untyped-decorator]
def _watch(_grad: Tensor, builds_graph: Callable[[], bool] = torch.is_grad_enabled) -> None:
    """Before a first backward pass through the kernel: look at what comes out of it, if it builds a graph."""
    # In every backward pass, after kernels that have emptied the caches: a name of `torch` would take a microsecond.
    if builds_graph():
        _watch_kernel(autograd_node())


@unserializable_hook  # type: ignore[untyped-decorator]
def _watch_parts(_grad: Tensor, builds_graph: Callable[[], bool] = torch.is_grad_enabled) -> None:
    if builds_graph():
        for node, _ in autograd_node().next_functions:
            _watch_kernel(node)


def _watch_kernel(kernel: Any) -> None:
    def once(into: Gradients, _from: Gradients) -> None:
        handle.remove()
        nodes = (grad.grad_fn for grad in into if grad is not None)
        node = next((node for node in nodes if node is not None), None)
        if node is not None and torch.is_grad_enabled():
            # One node gives all of them.
            node.register_hook(_end_second)

    handle = kernel.register_hook(once)


_watch_output_of, _watch_parts_of = output_hook(_watch), output_hook(_watch_parts)


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
