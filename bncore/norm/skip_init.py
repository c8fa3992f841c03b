"""SkipInit: a residual branch that starts out of the sum."""

import torch
from torch import Tensor, nn


class SkipInit(nn.Module):
    """Multiplies the end of a residual branch by one learned number, which starts at 0.

    `y = weight * x` with `weight` of shape (): `x + skip_init(branch(x))` is the identity at first, so that
    the size of activations and gradients does not grow with depth. Input and output: any shape.

    Difference from torch: there is no such module there. With `initial=0` the branch itself has gradient 0 in the very
    first step, and only `weight` moves.

    arXiv 2002.10444 (its scalar alpha).

    Args:
        initial: what `weight` starts at.
    """

    weight: nn.Parameter

    def __init__(
        self, initial: float = 0.0, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The scalar at its initial value."""
        nn.init.constant_(self.weight, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight

    def extra_repr(self) -> str:
        return f"initial={self.initial}"
