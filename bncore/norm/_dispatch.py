"""When native kernels may run and when a layer has to be spelled out in primitive operations.

Both ways give the same numbers; a test holds them equal. Native kernels are faster, but their derivatives end at the
second order, their forward-mode second derivative is silently wrong, and some have no kernel for the meta device.
"""

import torch
from torch import Tensor

from bncore.norm._torch import dispatch_modes, forward_mode, is_stack_of_gradients, is_tracing, transform


def may_use_native(x: Tensor) -> bool:
    """Whether a layer may call native kernels on `x` and trust their derivatives."""
    return torch.compiler.is_compiling() or not being_transformed(x)


def being_transformed(x: Tensor) -> bool:
    """Whether `x` is on the meta device, or seen by a `torch.func` transform or by forward-mode differentiation.

    Not to be asked while compiling: the compiler cannot trace the question.
    """
    return x.is_meta or forward_mode() or transform() is not None


def can_be_asked(x: Tensor) -> bool:
    """Whether numbers of `x` are there to be looked at: not in a program that is being written down.

    Nor in a tensor that sees each operation itself, since it may be a shape without numbers.
    """
    recorded = torch.compiler.is_compiling() or is_tracing() or dispatch_modes() > 0
    return not recorded and type(x).__torch_dispatch__ is Tensor.__torch_dispatch__


def times_(product: Tensor, factor: Tensor) -> Tensor:
    """`product * factor`, in the memory of `product` unless the factor is a stack of gradients and the product is none.

    `torch.autograd.grad(..., is_grads_batched=True)` stacks them in the older way, which is no transform to the rest.
    """
    if is_stack_of_gradients(factor):
        return product * factor
    return product.mul_(factor)


def guarded(newest: Tensor, running: Tensor) -> Tensor:
    """`newest`, but `running` in its place where it is not finite."""
    return torch.where(newest.isfinite(), newest, running.to(newest.dtype))


def blend(running: Tensor, newest: Tensor, weight: Tensor | float) -> None:
    """Move `running` towards `newest` in place by the share `weight`."""
    if torch.compiler.is_compiling():
        # vmap has no rule for `lerp_`, which the compiler, who cannot ask for vmap, takes apart into this anyway.
        running.copy_(running.lerp(newest.to(running.dtype), weight))
    elif may_use_native(running):
        running.lerp_(newest.to(running.dtype), weight)
    else:
        running.add_((newest.to(running.dtype) - running).mul_(weight))
