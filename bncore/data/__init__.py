"""Data sets, in memory or larger than that, and batches gathered from them by index."""

from bncore.data.batching import Batches
from bncore.data.dataset import IGNORED, DataSet, Examples, InvalidData, Part
from bncore.data.load import load_data, load_for
from bncore.data.standardize import Standardization

__all__ = [
    "IGNORED",
    "Batches",
    "DataSet",
    "Examples",
    "InvalidData",
    "Part",
    "Standardization",
    "load_data",
    "load_for",
]
