"""Some of many examples, each class in proportion to its size, and always the same ones."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], count: int, salt: str = "") -> tuple[list[int], list[int]]:
    """Indices of `count` examples, and of the others, each ascending.

    Within a class, examples are ranked by the SHA-256 of `salt` and their index in decimal, and the first ones are
    chosen. A class's share is proportional to its size, rounded down; what is left over goes one by one to the classes
    with the largest remainders, the smaller label first among equals.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    total = len(labels)
    shares = [int(size) * count // total for size in sizes]
    by_remainder = sorted(range(len(classes)), key=lambda place: (-(int(sizes[place]) * count % total), place))
    for place in by_remainder[: count - sum(shares)]:
        shares[place] += 1
    chosen: list[int] = []
    for label, share in zip(classes, shares, strict=True):
        chosen += by_rank(np.flatnonzero(labels == label).tolist(), salt)[:share]
    members = set(chosen)
    return sorted(members), [index for index in range(total) if index not in members]


def by_rank(indices: list[int], salt: str = "") -> list[int]:
    """The same indices in an order that is as good as any shuffled one, and the same everywhere."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{salt}{index}".encode()).digest())
