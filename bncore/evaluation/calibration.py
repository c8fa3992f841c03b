"""Whether a network is right as often as it says: confidences against hits, in bins.

Invariant: counts and sums are of whole numbers and double precision, in the order of the examples: the same outputs
give the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As in the paper."""


class Reliability:
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599, eq. 3).

    ECE = sum over bins m of |B_m| / n * |acc(B_m) - conf(B_m)|, where bin m has the examples whose confidence, the
    probability of the predicted class, is in ((m - 1) / 15, m / 15]; acc is the share of hits among them, conf the mean
    of their confidences, n the number of all examples. Empty bins count for nothing.

    Examples without a probability (outputs that are not finite) are in no bin, and the error is NaN then.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._hits = np.zeros(BINS, dtype=np.int64)
        self._confidences = np.zeros(BINS, dtype=np.float64)
        self._without = 0

    def add(self, confidences: NDArray[np.float64], hits: NDArray[np.bool_]) -> None:
        """Of each example (N,), the probability of the class that was predicted, and whether it was right."""
        known = np.isfinite(confidences)
        self._without += int(len(known) - known.sum())
        confidences, hits = confidences[known], hits[known]
        bins = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self._counts += np.bincount(bins, minlength=BINS)
        self._hits += np.bincount(bins[hits], minlength=BINS)
        self._confidences += np.bincount(bins, weights=confidences, minlength=BINS)

    def error(self) -> float:
        """ECE, 0 to 1."""
        if self._without:
            return float("nan")
        gaps = np.abs(self._hits - self._confidences)
        return float(gaps.sum() / self._counts.sum())

    def shown(self) -> dict[str, Any]:
        """The bins, from the least confident on; accuracy and confidence are None where there is no example."""

        def means(sums: NDArray[Any]) -> list[float | None]:
            return [float(of / count) if count else None for of, count in zip(sums, self._counts, strict=True)]

        return {
            "counts": self._counts.tolist(),
            "accuracy": means(self._hits),
            "confidence": means(self._confidences),
            "without_probability": self._without,
        }
