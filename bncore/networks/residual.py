"""What makes a block residual; torch.nn has no modules for it."""

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualSum(nn.Module):
    """`body(x) + shortcut(x)`, whose shapes are the same; a shortcut without layers is x itself (arXiv 1512.03385)."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.sum(self.body(x), self.shortcut(x))
        return summed


class Sum(nn.Module):
    """`x + y`; a module, so that what leaves a block can be observed by its name."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class SubsampleAndPad(nn.Module):
    """Every `stride`-th pixel, and channels of zeros behind the others: (N, C, H, W) to (N, width, H', W').

    H' and W' are H and W over the stride, rounded up. Option A of arXiv 1512.03385, which has no parameters.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width = width
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.width - x.shape[1]))

    def extra_repr(self) -> str:
        return f"width={self.width}, stride={self.stride}"
