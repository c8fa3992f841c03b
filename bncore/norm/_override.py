"""Custom autograd Functions that tensor subclasses can override, as they can torch's own operations.

Invariant: what comes out of a Function is no view made inside of it, or an in-place operation behind the layer would be
refused. A subclass wraps each result in a view. So it is asked as a whole (`__torch_function__`, as torch's own
operations ask it): inside, there are plain tensors, and the result is wrapped outside.
"""

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function


def apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """`function.apply(*args)`."""
    if not torch.compiler.is_compiling() and has_torch_function(args):
        return handle_torch_function(apply, args, function, *args)
    return function.apply(*args)


def refuse_to_export() -> None:
    """For layers in training whose gradient is not that of their forward pass.

    Raises:
        RuntimeError: `torch.export` is looking: of a Function it keeps the forward pass alone.
    """
    if torch.compiler.is_exporting():
        raise RuntimeError(
            "an exported program would have the derivative of this layer's forward pass, which is not the gradient "
            "that the layer is trained with; export it in evaluation mode"
        )
