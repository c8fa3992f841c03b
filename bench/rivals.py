"""Layers as a careful person writes them in an afternoon, in torch's own operations: what ours are measured against.

They train as ours do, over the same running statistics; they check nothing and know no special case.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ghost(nn.Module):
    """Ghost batch norm: the batch split, one native call a part, and the parts put together again."""

    def __init__(self, channels: int, virtual_batch_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.virtual_batch_size = virtual_batch_size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(part) for part in torch.split(x, self.virtual_batch_size)])


class Renorm(nn.Module):
    """Batch renormalization (arXiv 1702.03275, algorithm 1) past its warm-up, for input (N, C) or (N, C, H, W)."""

    def __init__(self, channels: int, momentum: float = 0.01, r_max: float = 3.0, d_max: float = 5.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_std: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_std", torch.full((channels,), (1.0 + 1e-5) ** 0.5))
        self.momentum, self.r_max, self.d_max = momentum, r_max, d_max

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
        std = (var + 1e-5).sqrt()
        with torch.no_grad():
            r = (std / self.running_std).clamp(1.0 / self.r_max, self.r_max)
            d = ((mean - self.running_mean) / self.running_std).clamp(-self.d_max, self.d_max)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_std.lerp_(std, self.momentum)
        scale = self.weight * r / std
        shift = self.bias + self.weight * d - mean * scale
        shape = [1, -1, *[1] * (x.dim() - 2)]
        return x * scale.view(shape) + shift.view(shape)


class Masked(nn.Module):
    """Batch norm over the positions (N, H, W) of a mask; the output is 0 at all others."""

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum = momentum

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        valid = mask.unsqueeze(1)
        count = valid.sum()
        mean = torch.where(valid, x, 0.0).sum((0, 2, 3)) / count
        centred = torch.where(valid, x - mean.view(1, -1, 1, 1), 0.0)
        var = centred.square().sum((0, 2, 3)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = (self.weight * (var + 1e-5).rsqrt()).view(1, -1, 1, 1)
        return torch.where(valid, centred * scale + self.bias.view(1, -1, 1, 1), 0.0)


class Frozen(nn.Module):
    """Batch norm as it evaluates, of buffers that nothing moves, as it is written in detection libraries."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = [1, -1, *[1] * (x.dim() - 2)]
        scale = self.weight.view(shape) * (self.running_var.view(shape) + self.eps).rsqrt()
        return x * scale + (self.bias.view(shape) - self.running_mean.view(shape) * scale)


class LayerNormOverImages(nn.Module):
    """Layer norm of a sample by torch's kernel, which takes values in the order in which they lie in memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):
            return F.group_norm(x, 1, self.weight, self.bias)
        rows = x.permute(0, 2, 3, 1)
        y = F.layer_norm(rows, rows.shape[1:])
        return torch.addcmul(self.bias, y, self.weight).permute(0, 3, 1, 2)


class RmsOverImages(nn.Module):
    """torch's RMS norm over channels and positions, without its scale per value, and a scale per channel behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[1:], None, 1e-6) * self.weight
