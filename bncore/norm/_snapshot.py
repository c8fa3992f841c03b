"""Values of running statistics, held as they are before a forward pass updates them: the same one, or a later one.

A backward pass reads what its forward pass has saved, by reference. Where training comes in between, that has moved:
torch's kernel moves running statistics behind the version counter, and the gradient is wrong without a word. Others, as
the broadcast of buffers by `DistributedDataParallel`, are seen by it, and the backward pass ends in an error.

The compiler's backward pass recomputes from buffers what it can, and reads buffers that the forward pass has updated by
then: gradients are wrong without a word. It saves what comes out of an operator it cannot see into, if the forward pass
reads that too; what only the backward pass reads is computed there. So such values go into one tensor with others.
"""

import torch
from torch import Tensor

from bncore.norm._recompute import refuse_to_run_again
from bncore.norm._torch import is_tracing


def as_of_now(*running: Tensor) -> tuple[Tensor, ...]:
    """Running statistics for an evaluation that saves them: copies where there may be a backward pass.

    A program that is compiled, exported or traced keeps the buffer itself: a copy there would be made again in the
    backward pass, or be in the way of who reads the program.
    """
    if torch.compiler.is_compiling() or is_tracing() or not torch.is_grad_enabled():
        return running
    return tuple(one.clone() for one in running)


def snapshot(value: Tensor) -> Tensor:
    """A copy of `value` that a compiled backward pass saves instead of recomputing it."""
    return _opaque_copy(value) if torch.compiler.is_compiling() else value.clone()


@torch.library.custom_op("bncore::snapshot", mutates_args=())
def _opaque_copy(value: Tensor) -> Tensor:
    refuse_to_run_again()
    return value.clone()


@_opaque_copy.register_fake
def _(value: Tensor) -> Tensor:
    return torch.empty_like(value)
