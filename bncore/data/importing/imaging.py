"""Arrays of pixels become images of the data set: channels first, a byte each, resized where that is asked.

Invariant: a number that is no multiple of 1/255, or of 1 up to 255, is refused and never rounded.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.arrays import Array
from bncore.data.importing.draft import Draft, Layout
from bncore.data.importing.pictures import resized
from bncore.spec.data.shape import Task
from bncore.spec.importing import ImportSpec

_CHANNELS = (1, 3)
_NEAR = 1e-3
"""Of 255, what single precision loses of a multiple of 1/255 is 1e-5."""


def begin_images(draft: Draft, spec: ImportSpec, shape: tuple[int, int, int], outputs: int = 0) -> None:
    """Lay out images that come as (C, H, W), as they will be after what is asked."""
    channels, height, width = shape
    if spec.grayscale and channels not in _CHANNELS:
        raise InvalidData(f"images of {channels} channels have no gray; leave grayscale out")
    size = spec.size or (height, width)
    kept = 1 if spec.grayscale else channels
    task: Task = "regression" if spec.task == "regression" else "classification"
    if spec.size is not None and spec.size != (height, width):
        draft.note(f"Images were resized from {height} x {width} to {size[0]} x {size[1]}.")
    draft.begin(Layout("image", (kept, *size), task, outputs))


def as_images(pixels: Array, spec: ImportSpec, shape: tuple[int, ...]) -> Array:
    """Bytes (n, C, H, W) as they are stored, of `shape`, from bytes (n, C, H, W) as they come."""
    if pixels.shape[1:] == shape:
        return pixels
    return resized(pixels, (shape[1], shape[2]), spec.grayscale)


class Channels:
    """Where channels stand in arrays of images (H, W), (H, W, C) or (C, H, W)."""

    def __init__(self, shape: tuple[int, ...], what: str) -> None:
        self.last = False
        if len(shape) == 2:
            self.shape = (1, *shape)
            return
        first, last = shape[0] in _CHANNELS, shape[2] in (*_CHANNELS, 4)
        if first == last:
            why = "both ends could be channels" if first else "neither end is a number of channels, 1 or 3"
            raise InvalidData(f"{what} has images of shape {list(shape)}, and {why}; turn the axes, or crop a pixel")
        self.last = last
        self.shape = (shape[2], shape[0], shape[1]) if last else (shape[0], shape[1], shape[2])

    def channels_first(self, rows: Array) -> Array:
        """Rows (n, ...) as (n, C, H, W)."""
        if rows.ndim == 3:
            return rows[:, np.newaxis]
        return rows.transpose(0, 3, 1, 2) if self.last else rows


def scale_of(pieces: Iterable[Array], what: str) -> float:
    """1 for numbers from 0 to 255, 255 for those from 0 to 1. Raises `InvalidData` for any others."""
    lowest, highest = np.inf, -np.inf
    for piece in pieces:
        if not np.isfinite(piece).all():
            raise InvalidData(f"{what} has pixels that are missing or infinite")
        lowest, highest = min(lowest, float(piece.min())), max(highest, float(piece.max()))
    if lowest < 0 or highest > 255:
        raise InvalidData(
            f"{what} has pixels from {lowest:g} to {highest:g}, and images are stored as bytes, 0 to 255; "
            "undo the standardization (it is done when training), or say kind: vector and give rows"
        )
    return 1.0 if highest > 1 else 255.0


def to_bytes(piece: Array, scale: float, what: str) -> Array:
    """Pixels as bytes. Raises `InvalidData` where one would have to be rounded."""
    if piece.dtype == np.uint8 and scale == 1.0:
        return piece
    scaled = piece.astype(np.float64) * scale
    near = np.rint(scaled)
    if not (np.abs(scaled - near) <= _NEAR).all():
        raise InvalidData(f"{what} has pixels that are no whole number of 255ths; images are stored as bytes")
    return near.astype(np.uint8)


def cut(rows: Array, row_bytes: int) -> Iterator[Array]:
    """The same in pieces that fit in memory as images."""
    at_once = max(1, bounds.PIECE_BYTES // max(1, row_bytes))
    for first in range(0, len(rows), at_once):
        yield rows[first : first + at_once]
