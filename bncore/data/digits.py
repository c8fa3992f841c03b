"""The 1,797 handwritten digits that scikit-learn is known for, in one fixed split.

The split does not depend on an experiment's seed: results of different seeds are measured on the same 597 examples.
"""

import functools
import gzip
import hashlib
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray

from bncore.data.dataset import DataSet, Examples

TRAIN_EXAMPLES = 1200
CLASSES = 10


@functools.cache
def load_digits() -> DataSet:
    """Pixels divided by 16, inputs (N, 1, 8, 8). Read once a process: parsing takes longer than the first steps."""
    images, labels = read_pixels()
    train, test = split(labels)
    inputs = torch.from_numpy((images / 16.0).astype(np.float32)).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))
    return DataSet(Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test]), CLASSES)


def read_pixels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels from 0 to 16 of shape (1797, 64), and labels; whose they are is in `digits.md` beside the file."""
    with resources.files(__package__).joinpath("digits.csv.gz").open("rb") as file, gzip.open(file) as text:
        table = np.loadtxt(text, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def split(labels: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Indices to train and to test on, each ascending.

    Within a class, examples are ranked by the SHA-256 of their index in decimal, and the first ones are for training. A
    class's share of the 1,200 is proportional to its size, rounded down; what is left over goes one by one to the
    classes with the largest remainders, the lower digit first among equals.
    """
    sizes = [int((labels == digit).sum()) for digit in range(CLASSES)]
    total = len(labels)
    shares = [size * TRAIN_EXAMPLES // total for size in sizes]
    by_remainder = sorted(range(CLASSES), key=lambda digit: (-(sizes[digit] * TRAIN_EXAMPLES % total), digit))
    for digit in by_remainder[: TRAIN_EXAMPLES - sum(shares)]:
        shares[digit] += 1
    train: list[int] = []
    for digit, share in enumerate(shares):
        members = np.flatnonzero(labels == digit).tolist()
        train += sorted(members, key=_rank)[:share]
    chosen = set(train)
    return sorted(chosen), [index for index in range(total) if index not in chosen]


def _rank(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()
