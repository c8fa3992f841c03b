"""Shifts of images: functions of an image, its number and a seed, whatever it is in a batch with.

Shapes: N images (N, C, H, W), pixels from 0 to 1.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bncore.data.resampling import along, gaussian, rotated, squares
from bncore.seeds import derive_seed
from bncore.spec.data import ShiftSpec

CONTRAST: Final = (0.75, 0.5, 0.4, 0.3, 0.15)
BRIGHTNESS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
NOISE: Final = (0.04, 0.08, 0.12, 0.18, 0.26)
BLUR: Final = (0.4, 0.6, 0.8, 1.0, 1.5)
"""Pixels."""
INVERSION: Final = (0.8, 0.6, 0.4, 0.2, 0.0)
ROTATION: Final = (10.0, 20.0, 30.0, 45.0, 60.0)
"""Degrees."""
RESIZE: Final = (0.75, 0.6, 0.5, 0.4, 0.3)
"""Of the side."""

_GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
_FIRST: Final = 0xBF58476D1CE4E5B9 - 2**64
_SECOND: Final = 0x94D049BB133111EB - 2**64


@dataclass(frozen=True)
class Shift:
    """What `spec` says; formulas and severities are in its docstring."""

    spec: ShiftSpec

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """The images with these numbers (N,), shifted."""
        level = self.spec.severity - 1
        match self.spec.kind:
            case "contrast":
                mean = images.mean((2, 3), keepdim=True)
                return mean + CONTRAST[level] * (images - mean)
            case "brightness":
                return (images + BRIGHTNESS[level]).clamp(max=1.0)
            case "noise":
                return (images + NOISE[level] * self._normal(images, numbers)).clamp(0.0, 1.0)
            case "inversion":
                return torch.where(images >= INVERSION[level], 1.0 - images, images)
            case "rotation":
                side = 1.0 - 2.0 * (self._keys(numbers) & 1)
                return rotated(images, side.float() * math.radians(ROTATION[level]))
            case _:
                return self._resampled(images, level)

    def _resampled(self, images: Tensor, level: int) -> Tensor:
        for axis in (2, 3):
            size = images.shape[axis]
            is_blur = self.spec.kind == "blur"
            # Half a pixel is rounded up.
            taps = gaussian(size, BLUR[level]) if is_blur else squares(size, max(1, int(size * RESIZE[level] + 0.5)))
            images = along(images, axis, taps.to(images.device))
        return images

    def _keys(self, numbers: Tensor) -> Tensor:
        """A number of 64 bits for each example, (N,)."""
        return _mixed(numbers * _GOLDEN + derive_seed(self.spec.seed, "shift", self.spec.kind))

    def _normal(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Standard normal numbers, two uniform ones for each (Box and Muller 1958)."""
        pixels = torch.arange(1, 2 * images[0].numel() + 1, device=images.device) * _GOLDEN
        bits = _mixed(self._keys(numbers).unsqueeze(1) + pixels)
        uniform = ((_right(bits, 11)).double() + 0.5) * 2.0**-53
        radius, angle = uniform.chunk(2, 1)
        normal = (-2.0 * radius.log()).sqrt() * (2.0 * math.pi * angle).cos()
        return normal.float().view_as(images)


def _mixed(numbers: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), in whole numbers that wrap around alike on any device."""
    numbers = (numbers ^ _right(numbers, 30)) * _FIRST
    numbers = (numbers ^ _right(numbers, 27)) * _SECOND
    return numbers ^ _right(numbers, 31)


def _right(numbers: Tensor, places: int) -> Tensor:
    """Shifted right with zeros, as unsigned numbers are."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)
