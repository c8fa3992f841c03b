"""Images on other grids: areas averaged, blurred, rotated. Of an image the same bits, whatever it is in a batch with.

Each new pixel is a weighted sum of a few old ones, added up in their order.

Shapes: N images, C channels, H rows, W columns; P new pixels along an axis, T taps.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Taps:
    """Which old pixels along an axis a new one is made of, (P, T), and their weights."""

    places: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "Taps":
        """The same on `device`."""
        return Taps(self.places.to(device), self.weights.to(device))


def along(images: Tensor, axis: int, taps: Taps) -> Tensor:
    """The images (N, C, H, W) with P pixels along `axis`."""
    shape = [1, 1, 1, 1]
    shape[axis] = len(taps.places)
    columns = zip(taps.places.unbind(1), taps.weights.unbind(1), strict=True)
    parts = (images.index_select(axis, places) * weights.view(shape) for places, weights in columns)
    total = next(parts)
    for part in parts:
        total = total + part
    return total


@functools.lru_cache(maxsize=64)
def areas(old: int, new: int) -> Taps:
    """Each of `new` pixels is the average of what it covers of `old` ones, parts of them included."""
    edges = [old * place / new for place in range(new + 1)]
    covered = np.zeros((new, old))
    for place in range(new):
        for pixel in range(math.floor(edges[place]), math.ceil(edges[place + 1])):
            covered[place, pixel] = min(edges[place + 1], pixel + 1) - max(edges[place], pixel)
    return _taps(covered * new / old)


@functools.lru_cache(maxsize=64)
def squares(old: int, new: int) -> Taps:
    """`areas`, and each of the `old` pixels has the value of the new one that its middle lies in."""
    coarse = areas(old, new)
    within = torch.tensor([(2 * pixel + 1) * new // (2 * old) for pixel in range(old)])
    return Taps(coarse.places[within], coarse.weights[within])


@functools.lru_cache(maxsize=64)
def gaussian(size: int, deviation: float) -> Taps:
    """A blur with a standard deviation in pixels, cut at four of them and with weights of sum 1; edges are repeated."""
    radius = math.ceil(4 * deviation)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    places = np.clip(np.arange(size)[:, None] + offsets, 0, size - 1)
    weights = np.broadcast_to(weights / weights.sum(), places.shape)
    return Taps(torch.from_numpy(places), torch.from_numpy(weights.astype(np.float32)))


def rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Each image about its centre by its angle (N,), in radians and counter-clockwise; bilinear, zeros from outside."""
    height, width = images.shape[2:]
    down = torch.arange(height, device=images.device).view(1, -1, 1) - (height - 1) / 2
    right = torch.arange(width, device=images.device).view(1, 1, -1) - (width - 1) / 2
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    # Where a new pixel comes from; `grid_sample` counts from -1 to 1 between the middles of the outermost pixels.
    columns = (cos * right - sin * down) * (2 / max(1, width - 1))
    rows = (sin * right + cos * down) * (2 / max(1, height - 1))
    return F.grid_sample(images, torch.stack([columns, rows], 3), padding_mode="zeros", align_corners=True)


def _taps(matrix: NDArray[np.float64]) -> Taps:
    """Of a matrix (P, old), the entries that are not 0; rows with fewer than others are filled up with weights of 0."""
    most = int((matrix > 0).sum(1).max())
    places = np.zeros((len(matrix), most), dtype=np.int64)
    weights = np.zeros((len(matrix), most), dtype=np.float32)
    for row, values in enumerate(matrix):
        found = np.flatnonzero(values)
        places[row, : len(found)], weights[row, : len(found)] = found, values[found]
    return Taps(torch.from_numpy(places), torch.from_numpy(weights))
