"""What is done to a batch before a training step, on the device of the batch.

Invariant: what is drawn is a function of seed, place in the list and step. But for noise it is drawn on the CPU and is
the same on every device.

Shapes: N examples of a batch; images (N, C, H, W).
"""

import math
import random
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor

from bncore.data.dataset import Examples, Mixed
from bncore.data.resampling import rotated
from bncore.data.standardize import is_valid
from bncore.seeds import derive_seed
from bncore.spec.data.augment import (
    AugmentSpec,
    CutoutSpec,
    FlipSpec,
    MixupSpec,
    NoiseSpec,
    PadCropSpec,
    RotateSpec,
)


def augmented(batch: Examples, augment: Sequence[AugmentSpec], seed: int, step: int) -> Examples:
    """The batch of step `step`, changed by each in turn."""
    for place, one in enumerate(augment):
        own = derive_seed(seed, "augment", place, step)
        if isinstance(one, MixupSpec):
            batch = _mixed(batch, one, own)
        elif isinstance(one, NoiseSpec):
            batch = _with_noise(batch, one, own)
        else:
            batch = batch._replace(inputs=_changed(batch.inputs, one, torch.Generator().manual_seed(own)))
    return batch


def _changed(images: Tensor, one: PadCropSpec | FlipSpec | RotateSpec | CutoutSpec, stream: torch.Generator) -> Tensor:
    match one:
        case PadCropSpec(padding=padding):
            return _cropped(images, padding, stream)
        case FlipSpec():
            is_flipped = _uniform(images, stream) < one.probability
            mirrored = images.flip(3 if one.direction == "horizontal" else 2)
            return torch.where(is_flipped.view(-1, 1, 1, 1), mirrored, images)
        case RotateSpec():
            return rotated(images, (2.0 * _uniform(images, stream) - 1.0) * math.radians(one.degrees))
        case CutoutSpec(size=size):
            return _cut_out(images, size, stream)
        case _:
            assert_never(one)


def _cropped(images: Tensor, padding: int, stream: torch.Generator) -> Tensor:
    """Offsets of each example from 0 to twice the padding; what is not in the image is 0."""
    count, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    down, right = (_whole(images, 2 * padding + 1, stream) for _ in range(2))
    rows = (down.view(-1, 1) + torch.arange(height, device=images.device)).view(count, 1, height, 1)
    columns = (right.view(-1, 1) + torch.arange(width, device=images.device)).view(count, 1, 1, width)
    cut = padded.gather(2, rows.expand(-1, channels, -1, padded.shape[3]))
    return cut.gather(3, columns.expand(-1, channels, height, -1))


def _cut_out(images: Tensor, size: int, stream: torch.Generator) -> Tensor:
    """A square whose upper left corner is half its size above and to the left of a pixel that is drawn."""
    height, width = images.shape[2:]
    top, left = (_whole(images, side, stream).view(-1, 1, 1, 1) - size // 2 for side in (height, width))
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1) - top
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1) - left
    is_inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    return images.masked_fill(is_inside, 0.0)


def _mixed(batch: Examples, one: MixupSpec, seed: int) -> Examples:
    drawn = random.Random(seed).betavariate(one.alpha, one.alpha)
    share = max(drawn, 1.0 - drawn)
    order = torch.randperm(len(batch.inputs), generator=torch.Generator().manual_seed(seed))
    order = _on_device(order, batch.inputs)
    inputs = share * batch.inputs + (1.0 - share) * batch.inputs.index_select(0, order)
    return batch._replace(inputs=inputs, mixed=Mixed(batch.targets.index_select(0, order), share))


def _with_noise(batch: Examples, one: NoiseSpec, seed: int) -> Examples:
    inputs = batch.inputs
    stream = torch.Generator(inputs.device).manual_seed(seed)
    noise = one.std * torch.randn(inputs.shape, generator=stream, device=inputs.device)
    if batch.lengths is not None:
        noise = torch.where(is_valid(inputs, batch.lengths).unsqueeze(-1), noise, 0.0)
    return batch._replace(inputs=inputs + noise)


def _uniform(images: Tensor, stream: torch.Generator) -> Tensor:
    """A number from 0 to 1 for each example, (N,)."""
    return _on_device(torch.rand(len(images), generator=stream), images)


def _whole(images: Tensor, end: int, stream: torch.Generator) -> Tensor:
    """A whole number from 0 up to `end` for each example, (N,)."""
    return _on_device(torch.randint(0, end, (len(images),), generator=stream), images)


def _on_device(drawn: Tensor, inputs: Tensor) -> Tensor:
    if inputs.device.type == "cuda":
        return drawn.pin_memory().to(inputs.device, non_blocking=True)
    return drawn
