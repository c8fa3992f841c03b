"""Data sets held whole in memory, and batches gathered from them by index."""

from typing import assert_never

from bncore.data.batching import Batches
from bncore.data.dataset import IGNORED, DataSet, Examples, InvalidData, check
from bncore.data.digits import load_digits
from bncore.spec.data import DataSpec, DigitsSpec

__all__ = ["IGNORED", "Batches", "DataSet", "Examples", "InvalidData", "load_data"]


def load_data(spec: DataSpec) -> DataSet:
    """The data set of `spec` on the CPU. Raises `InvalidData` for values no network can be trained on."""
    match spec:
        case DigitsSpec():
            data = load_digits()
        case _:
            assert_never(spec)
    check(data)
    return data
