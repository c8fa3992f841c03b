"""Values of running statistics, held as they are before the same forward pass updates them.

The compiler's backward pass recomputes from buffers what it can, and reads buffers that the forward pass has updated by
then: gradients are wrong without a word. It saves what comes out of an operator it cannot see into, if the forward pass
reads that too; what only the backward pass reads is computed there. So such values go into one tensor with others.
"""

import torch
from torch import Tensor

from bncore.norm._recompute import refuse_to_run_again


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
