"""The networks of images as their papers have them, written by hand and apart from the library: oracles."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(channels: int, width: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)


class Residual(nn.Module):
    """relu(bn(conv) ... + shortcut), or with `is_v2` the pre-activated unit."""

    def __init__(self, channels: int, width: int, stride: int, kind: str, shortcut: str, is_first: bool) -> None:
        super().__init__()
        end = 4 * width if "bottleneck" in kind else width
        sizes = [(channels, width, 1, 1), (width, width, 3, stride), (width, end, 1, 1)]
        if "bottleneck" not in kind:
            sizes = [(channels, width, 3, stride), (width, width, 3, 1)]
        self.is_v2, self.is_first = "v2" in kind, is_first
        self.convs = nn.ModuleList([conv(*each) for each in sizes])
        self.norms = nn.ModuleList([nn.BatchNorm2d(each[0] if self.is_v2 else each[1]) for each in sizes])
        if self.is_v2 and is_first:
            self.norms[0] = nn.Identity()
        self.changes = stride > 1 or channels != end
        self.end, self.stride, self.shortcut = end, stride, shortcut
        if self.changes and shortcut == "B":
            self.project = conv(channels, end, 1, stride)
            # The pre-activation is the projection's normalization.
            self.project_norm = nn.Identity() if self.is_v2 else nn.BatchNorm2d(end)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_v2(x) if self.is_v2 else F.relu(self.body(x) + self.around(x))

    def body(self, x: Tensor) -> Tensor:
        for number, (layer, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            x = norm(layer(x))
            x = x if number == len(self.convs) else F.relu(x)
        return x

    def forward_v2(self, x: Tensor) -> Tensor:
        first = x if self.is_first else F.relu(self.norms[0](x))
        around = self.around(first if self.changes and self.shortcut == "B" else x)
        y = self.convs[0](first)
        for layer, norm in zip(self.convs[1:], self.norms[1:], strict=True):
            y = layer(F.relu(norm(y)))
        return y + around

    def around(self, x: Tensor) -> Tensor:
        if not self.changes:
            return x
        if self.shortcut == "B":
            return self.project_norm(self.project(x))
        x = F.avg_pool2d(x, 1, self.stride)
        return torch.cat([x, torch.zeros(len(x), self.end - x.shape[1], *x.shape[2:], dtype=x.dtype)], 1)


class ResNet(nn.Module):
    """Stages of residual blocks between a stem and a mean over positions."""

    def __init__(
        self, channels: int, classes: int, blocks: Sequence[int], width: int, kind: str, shortcut: str, is_large: bool
    ) -> None:
        super().__init__()
        self.is_large, self.is_v2 = is_large, "v2" in kind
        self.conv = conv(channels, width, 7, 2) if is_large else conv(channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        stages, channels, expansion = [], width, 4 if "bottleneck" in kind else 1
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                stride = 2 if number == 0 and stage else 1
                layers.append(Residual(channels, width, stride, kind, shortcut, stage == number == 0))
                channels = expansion * width
            stages.append(nn.Sequential(*layers))
            width *= 2
        self.stages = nn.ModuleList(stages)
        self.last = nn.BatchNorm2d(channels) if self.is_v2 else nn.Identity()
        self.output = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.is_large else x
        for stage in self.stages:
            x = stage(x)
        return self.output((F.relu(self.last(x)) if self.is_v2 else x).mean((2, 3)))


class Inverted(nn.Module):
    """A 1x1 convolution, a depthwise one, a linear one, and the input where shapes allow."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers = [conv(channels, wide, 1)] if expansion > 1 else []
        layers += [conv(wide, wide, 3, stride, wide), conv(wide, width, 1)]
        self.convs = nn.ModuleList(layers)
        self.norms = nn.ModuleList([nn.BatchNorm2d(each.out_channels) for each in layers])
        self.is_residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer, norm in zip(self.convs, self.norms, strict=True):
            y = norm(layer(y))
            y = y if layer is self.convs[-1] else y.clamp(0, 6)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """With every width already rounded; `small` is without the first two halvings."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int], *, small: bool) -> None:
        super().__init__()
        stem, *inner, last = widths
        self.conv, self.norm = conv(channels, stem, 3, 1 if small else 2), nn.BatchNorm2d(stem)
        stages, channels = [], stem
        for stage, width in enumerate(inner):
            count, stride = (1, 2, 3, 4, 3, 3, 1)[stage], (1, 1 if small else 2, 2, 2, 1, 2, 1)[stage]
            blocks = []
            for number in range(count):
                blocks.append(Inverted(channels, width, 6 if stage else 1, 1 if number else stride))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.last, self.last_norm = conv(channels, last, 1), nn.BatchNorm2d(last)
        self.output = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).clamp(0, 6)
        for stage in self.stages:
            x = stage(x)
        return self.output(self.last_norm(self.last(x)).clamp(0, 6).mean((2, 3)))


class Vgg(nn.Module):
    """Convolutions by a list like the authors': a number is a width, M is a pool."""

    def __init__(self, channels: int, classes: int, layers: Sequence[int | str], head: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.has_head = layers, bool(head)
        widths = [width for width in layers if isinstance(width, int)]
        pairs = zip([channels, *widths], widths, strict=False)
        self.convs = nn.ModuleList([conv(before, width, 3) for before, width in pairs])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths])
        pairs = zip([widths[-1], *head], head, strict=False)
        self.linears = nn.ModuleList([nn.Linear(before, width, bias=False) for before, width in pairs])
        self.linear_norms = nn.ModuleList([nn.BatchNorm1d(width) for width in head])
        self.output = nn.Linear(([widths[-1], *head])[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        at = iter(zip(self.convs, self.norms, strict=True))
        for layer in self.layers:
            if layer == "M":
                x = F.max_pool2d(x, 2)
            else:
                convolution, norm = next(at)
                x = F.relu(norm(convolution(x)))
        x = x.flatten(1) if self.has_head else x.mean((2, 3))
        for linear, norm in zip(self.linears, self.linear_norms, strict=True):
            x = F.relu(norm(linear(x)))
        return self.output(x)


def renamed(state: dict[str, Tensor], name: Callable[[str], str]) -> dict[str, Tensor]:
    """The state under the names of a network made by hand."""
    return {name(key): value for key, value in state.items()}
