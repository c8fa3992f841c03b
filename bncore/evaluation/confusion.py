"""Which classes are taken for which, and what follows from it for each class.

Invariant: pairs that never occur take no room, so that 10,000 classes are no 10^8 numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Confusion:
    """Counts of pairs of true and predicted class, of `classes` each."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._pairs = np.zeros(0, dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, true: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
        """Classes (N,) of as many examples."""
        pairs, counts = np.unique(true * self._classes + predicted, return_counts=True)
        merged, places = np.unique(np.concatenate((self._pairs, pairs)), return_inverse=True)
        sums = np.zeros(len(merged), dtype=np.int64)
        np.add.at(sums, places, np.concatenate((self._counts, counts)))
        self._pairs, self._counts = merged, sums

    def matrix(self) -> NDArray[np.int64]:
        """Rows are true classes, columns predicted ones, (classes, classes)."""
        dense = np.zeros(self._classes**2, dtype=np.int64)
        dense[self._pairs] = self._counts
        return dense.reshape(self._classes, self._classes)

    def entries(self) -> dict[str, NDArray[np.int64]]:
        """Those that are not zero, by row: `true`, `predicted` and `count`, one number each."""
        true, predicted = np.divmod(self._pairs, self._classes)
        return {"true": true, "predicted": predicted, "count": self._counts}

    def per_class(self) -> dict[str, list[Any]]:
        """Of each class: precision, recall, f1, the number of examples, and how often it was predicted.

        Precision is None for a class that was never predicted, recall for one without examples, f1 where both hold.
        """
        entries = self.entries()
        true, predicted, hits = (np.zeros(self._classes, dtype=np.int64) for _ in range(3))
        np.add.at(true, entries["true"], self._counts)
        np.add.at(predicted, entries["predicted"], self._counts)
        right = entries["true"] == entries["predicted"]
        hits[entries["true"][right]] = self._counts[right]
        return {
            "precision": _shares(hits, predicted),
            "recall": _shares(hits, true),
            "f1": _shares(2 * hits, true + predicted),
            "count": true.tolist(),
            "predicted": predicted.tolist(),
        }


def _shares(of: NDArray[np.int64], all_: NDArray[np.int64]) -> list[float | None]:
    return [int(part) / int(whole) if whole else None for part, whole in zip(of, all_, strict=True)]
