"""The sum that makes a block residual; torch.nn has no module for it."""

from torch import Tensor, nn


class ResidualSum(nn.Module):
    """`body(x) + shortcut(x)`, whose shapes are the same; a shortcut without layers is x itself (arXiv 1512.03385)."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.body(x) + self.shortcut(x)
        return summed
