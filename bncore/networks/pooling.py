"""Pooling that is quicker where nothing is differentiated.

Invariant: the numbers are those of `torch.nn`, to the bit, but for the sign of a zero.
"""

import torch
from torch import Tensor, nn


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`; without gradients, halves of images on the CPU are taken by maxima of every second pixel.

    torch's kernel looks for places that only a gradient needs, and takes eight to fourteen times as long. Where a
    gradient is wanted it is torch's, since of equal pixels another one would get it.
    """

    def forward(self, input: Tensor) -> Tensor:
        is_plain = self._halves and input.is_cpu and input.is_contiguous() and min(input.shape[-2:]) > 1
        if torch.is_grad_enabled() or not is_plain:
            pooled: Tensor = super().forward(input)
            return pooled
        rows, columns = input.shape[-2] // 2 * 2, input.shape[-1] // 2 * 2
        x = input[..., :rows, :columns]
        x = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
        return torch.maximum(x[..., 0::2], x[..., 1::2])

    @property
    def _halves(self) -> bool:
        plain = self.padding in (0, (0, 0)) and self.dilation in (1, (1, 1))
        return plain and not self.ceil_mode and (self.kernel_size, self.stride) in ((2, 2), ((2, 2), (2, 2)))
