"""Labelled images of one channel, and the ways to read them as sequences."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bncore.data.dataset import DataSet, Examples
from bncore.data.stratified import by_rank, stratified
from bncore.spec.data import Presentation

CLASSES = 10


def split_pixels(
    pixels: NDArray[np.float64] | NDArray[np.uint8], labels: NDArray[np.int64], brightest: float, train_examples: int
) -> DataSet:
    """Images (N, 1, S, S) from rows of pixels (N, S * S), divided by `brightest`, in one fixed split by class."""
    train, test = stratified(labels, train_examples)
    side = round(pixels.shape[1] ** 0.5)
    inputs = torch.from_numpy((pixels / brightest).astype(np.float32)).view(-1, 1, side, side)
    targets = torch.from_numpy(labels.astype(np.int64))
    return DataSet(Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test]), CLASSES)


def present(images: Tensor, presentation: Presentation) -> Tensor:
    """Images (N, 1, S, S) as they are, or as sequences: (N, S, S) by rows, (N, S * S, 1) by pixels."""
    match presentation:
        case "image":
            return images
        case "row":
            return images.squeeze(1)
        case "pixel":
            return images.flatten(1).unsqueeze(2)
        case "permuted_pixel":
            return images.flatten(1)[:, pixel_order(images[0].numel())].unsqueeze(2)


def pixel_order(pixels: int) -> list[int]:
    """The one shuffled order of so many pixels."""
    order: list[int] = by_rank(np.arange(pixels), "pixel ").tolist()
    return order
