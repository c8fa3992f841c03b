"""What the compiler must not put into a graph. To be imported where it is called: with it comes the compiler itself,
which takes seconds to import and which most programs never ask for.
"""

from collections.abc import Callable

import torch
from torch import Tensor


@torch.compiler.disable  # type: ignore[untyped-decorator]
def out_of_graphs(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, never compiled."""
    return function(x)
