"""One look at every example: counts of classes, moments of features, hashes that tell duplicates.

Everything is in double precision and by pieces; moments are merged as in Chan, Golub, LeVeque (1983), eq. 1.5.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bncore.data.importing.arrays import Array, ArrayFile
from bncore.data.importing.draft import Draft, DraftPart
from bncore.data.importing.missing import valid_rows

_HASH_BYTES = 8
"""Of 20 million examples two that differ share one with a probability of 1e-5."""


class Moments:
    """Mean, sum of squared deviations, least and largest of columns, all (F,)."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = np.zeros(width)
        self.squares = np.zeros(width)
        self.least = np.full(width, np.inf)
        self.largest = np.full(width, -np.inf)

    def add(self, rows: Array) -> None:
        """Take in rows (k, F)."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        self._merge(len(rows), rows.mean(axis=0), rows.var(axis=0) * len(rows), rows.min(axis=0), rows.max(axis=0))

    def add_images(self, pixels: NDArray[np.uint8]) -> None:
        """Take in images (k, C, H, W), as pixels / 255 of each channel; exact, since a byte has 256 values."""
        values = np.arange(256) / 255.0
        for channel in range(pixels.shape[1]):
            counts = np.bincount(pixels[:, channel].reshape(-1), minlength=256)
            there = np.flatnonzero(counts)
            mean = (counts * values).sum() / counts.sum()
            squares = (counts * (values - mean) ** 2).sum()
            self._merge_one(channel, int(counts.sum()), mean, squares, values[there[0]], values[there[-1]])
        self.count += pixels.size // pixels.shape[1]

    @property
    def sd(self) -> NDArray[np.float64]:
        """Population standard deviation (F,)."""
        return np.sqrt(self.squares / max(1, self.count))

    def _merge(self, count: int, mean: Array, squares: Array, least: Array, largest: Array) -> None:
        total = self.count + count
        change = mean - self.mean
        self.mean = self.mean + change * (count / total)
        self.squares = self.squares + squares + change**2 * (self.count * count / total)
        self.least, self.largest = np.minimum(self.least, least), np.maximum(self.largest, largest)
        self.count = total

    def _merge_one(self, place: int, count: int, mean: float, squares: float, least: float, largest: float) -> None:
        total = self.count + count
        change = mean - self.mean[place]
        self.mean[place] += change * (count / total)
        self.squares[place] += squares + change**2 * (self.count * count / total)
        self.least[place], self.largest[place] = min(self.least[place], least), max(self.largest[place], largest)


@dataclass
class Measured:
    """Of one part: counts of classes (K,) or None, sorted distinct hashes, duplicates, lengths, moments of targets."""

    examples: int
    class_counts: NDArray[np.int64] | None
    hashes: NDArray[np.uint64]
    lengths: tuple[int, int] | None
    targets: Moments | None

    @property
    def duplicates(self) -> int:
        """Examples that are not the first of their kind."""
        return self.examples - len(np.unique(self.hashes))

    def also_in(self, other: "Measured") -> int:
        """Examples whose hash another part has."""
        return int(np.isin(self.hashes, other.hashes).sum())


def measure_part(draft: Draft, name: str, moments: Moments | None) -> Measured:
    """Look at all of a part; features are taken into `moments`, where they are wanted."""
    part, kind = draft.parts[name], draft.laid_out.kind
    digests = bytearray()
    for start, rows in part.inputs.pieces():
        digests += _hashed(part, start, rows)
        if moments is not None and kind == "image":
            moments.add_images(rows)
        elif moments is not None:
            moments.add(valid_rows(part, start, rows, kind))
    regression = draft.laid_out.task == "regression"
    return Measured(
        examples=part.inputs.shape[0],
        class_counts=None if regression else _class_counts(part.targets, len(draft.labels.names)),
        hashes=np.frombuffer(bytes(digests), dtype=np.uint64),
        lengths=_lengths(part.lengths),
        targets=_target_moments(part.targets) if regression else None,
    )


def _hashed(part: DraftPart, start: int, rows: Array) -> bytes:
    lengths = None if part.lengths is None else part.lengths.rows(start, len(rows))
    if rows.dtype.kind == "f":
        # Of zeros there are two, which are equal and have different bits: this makes one of them.
        rows = rows + rows.dtype.type(0)
    return b"".join(
        hashlib.blake2b(
            row.data, digest_size=_HASH_BYTES, salt=b"" if lengths is None else lengths[place].tobytes()
        ).digest()
        for place, row in enumerate(rows)
    )


def _class_counts(targets: ArrayFile, classes: int) -> NDArray[np.int64]:
    counts = np.zeros(classes, dtype=np.int64)
    for _, rows in targets.pieces():
        counts += np.bincount(rows[rows >= 0].reshape(-1), minlength=classes)
    return counts


def _lengths(lengths: ArrayFile | None) -> tuple[int, int] | None:
    if lengths is None:
        return None
    pieces = [(int(rows.min()), int(rows.max())) for _, rows in lengths.pieces()]
    return min(low for low, _ in pieces), max(high for _, high in pieces)


def _target_moments(targets: ArrayFile) -> Moments:
    moments = Moments(targets.shape[1])
    for _, rows in targets.pieces():
        moments.add(rows)
    return moments
