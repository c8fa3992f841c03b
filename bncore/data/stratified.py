"""Some of many examples, each class in proportion to its size, and always the same ones."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bncore.spec.data.validation import shares

Indices = NDArray[np.int64]


def stratified(labels: NDArray[np.int64], count: int, salt: str = "") -> tuple[Indices, Indices]:
    """Indices of `count` examples, and of the others, each ascending.

    Within a class, examples are ranked by the SHA-256 of `salt` and their index in decimal, and the first ones are
    chosen. A class's share is proportional to its size, rounded down; what is left over goes one by one to the classes
    with the largest remainders, the smaller label first among equals.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    given = dict(zip(classes.tolist(), shares(sizes.tolist(), count), strict=True))
    is_chosen = of_each(labels, given, salt)
    return np.flatnonzero(is_chosen), np.flatnonzero(~is_chosen)


def of_each(labels: NDArray[np.int64], counts: Mapping[int, int], salt: str) -> NDArray[np.bool_]:
    """Which examples are among the first so many of their class by rank."""
    is_chosen = np.zeros(len(labels), dtype=bool)
    by_label = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[by_label], np.array([[label, label + 1] for label in counts]))
    for (first, end), count in zip(ends.tolist(), counts.values(), strict=True):
        members = by_label[first:end]
        is_chosen[members if count >= len(members) else by_rank(members, salt)[:count]] = True
    return is_chosen


def by_rank(indices: Indices, salt: str = "") -> Indices:
    """The same indices in an order that is as good as any shuffled one, and the same everywhere."""
    digests = (hashlib.sha256(f"{salt}{index}".encode()).digest() for index in indices.tolist())
    # As one array: so many objects would take five times the memory.
    return indices[np.argsort(np.fromiter(digests, dtype="S32", count=len(indices)), kind="stable")]
