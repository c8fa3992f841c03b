"""The 1,797 handwritten digits that scikit-learn is known for, in one fixed split.

The split does not depend on an experiment's seed: results of different seeds are measured on the same 597 examples.
"""

import functools
import gzip
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from bncore.data.dataset import DataSet
from bncore.data.pixels import split_pixels

TRAIN_EXAMPLES = 1200


@functools.cache
def load_digits() -> DataSet:
    """Pixels divided by 16, inputs (N, 1, 8, 8). Read once a process: parsing takes longer than the first steps."""
    pixels, labels = read_pixels()
    return split_pixels(pixels, labels, 16.0, TRAIN_EXAMPLES)


def read_pixels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels from 0 to 16 of shape (1797, 64), and labels; whose they are is in `digits.md` beside the file."""
    with resources.files(__package__).joinpath("digits.csv.gz").open("rb") as file, gzip.open(file) as text:
        table = np.loadtxt(text, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)
