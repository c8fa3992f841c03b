"""Missing and infinite features: counted, and filled in where that is asked, from the training part alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bncore.data.dataset import InvalidData
from bncore.data.importing.arrays import Array, ArrayFile
from bncore.data.importing.draft import Draft, DraftPart
from bncore.spec.importing import Impute

_MEDIAN_BYTES = 64 * 2**20
"""Of columns that are held at once to find their medians."""


@dataclass
class Missing:
    """How many values of each feature (F,) were not finite in all parts, and what took their place (F,)."""

    counts: NDArray[np.int64]
    values: NDArray[np.float64] | None = None


def impute(draft: Draft, how: Impute | None) -> Missing:
    """Fill in what is missing. Raises `InvalidData` where something is and nothing is said of it."""
    layout = draft.laid_out
    width = layout.shape[0] if layout.kind == "image" else layout.shape[-1]
    counts = np.zeros(width, dtype=np.int64)
    if layout.kind == "image":
        return Missing(counts)
    first: str | None = None
    for name, part in draft.parts.items():
        for start, rows in part.inputs.pieces():
            lacking = ~np.isfinite(rows)
            if lacking.any():
                counts += lacking.reshape(-1, width).sum(axis=0)
                first = first or _place(draft, name, start, rows, lacking)
    if first is None:
        return Missing(counts)
    if how is None:
        raise InvalidData(
            f"{counts.sum():,} features are missing or infinite, {first}; say impute: mean, median or a number"
        )
    return Missing(counts, _fill(draft, how, np.flatnonzero(counts)))


def feature_name(draft: Draft, place: int) -> str:
    """The name of a column, or its number from 0."""
    return draft.columns[place] if draft.columns is not None else str(place)


def valid_rows(part: DraftPart, start: int, rows: Array, kind: str) -> Array:
    """Features (k, F) of all that counts: of sequences the steps before their end."""
    if kind != "sequence":
        return rows
    if part.lengths is None:
        return rows.reshape(-1, rows.shape[-1])
    lengths = part.lengths.rows(start, len(rows))
    return rows[np.arange(rows.shape[1]) < lengths[:, np.newaxis]]


def _place(draft: Draft, part: str, start: int, rows: Array, lacking: NDArray[np.bool_]) -> str:
    index = np.argwhere(lacking)[0]
    value = rows[tuple(index)]
    what = "is missing" if np.isnan(value) else "is infinite, or too large for single precision"
    step = f" step {index[1] + 1}," if len(index) == 3 else ""
    feature = feature_name(draft, int(index[-1]))
    return f"first in example {start + index[0] + 1} of {part},{step} feature {feature!r}, which {what}"


def _fill(draft: Draft, how: Impute, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    width = draft.laid_out.shape[-1]
    values = np.zeros(width, dtype=np.float64)
    if how == "mean":
        values[columns] = _means(draft, columns)
    elif how == "median":
        values[columns] = _medians(draft, columns)
    else:
        values[columns] = float(how)
    filled = values.astype(np.float32)
    for part in draft.parts.values():
        for start, rows in part.inputs.pieces():
            lacking = ~np.isfinite(rows)
            if lacking.any():
                part.inputs.put(start, np.where(lacking, filled, rows))
    return values


def _means(draft: Draft, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    train = draft.parts["train"]
    sums, counts = np.zeros(len(columns)), np.zeros(len(columns), dtype=np.int64)
    for start, rows in train.inputs.pieces():
        chosen = valid_rows(train, start, rows, draft.laid_out.kind)[:, columns].astype(np.float64)
        there = np.isfinite(chosen)
        sums += np.where(there, chosen, 0.0).sum(axis=0)
        counts += there.sum(axis=0)
    _refuse_empty(draft, columns, counts)
    return sums / counts


def _medians(draft: Draft, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    train = draft.parts["train"]
    steps = train.inputs.shape[1] if train.inputs.dtype.kind == "f" and len(train.inputs.shape) == 3 else 1
    at_once = max(1, _MEDIAN_BYTES // (4 * train.inputs.shape[0] * steps))
    medians: list[float] = []
    for first in range(0, len(columns), at_once):
        chosen = columns[first : first + at_once]
        held = np.concatenate(
            [valid_rows(train, start, rows, draft.laid_out.kind)[:, chosen] for start, rows in train.inputs.pieces()]
        )
        there = np.isfinite(held)
        _refuse_empty(draft, chosen, there.sum(axis=0))
        medians += [float(np.median(held[there[:, place], place].astype(np.float64))) for place in range(len(chosen))]
    return np.array(medians)


def _refuse_empty(draft: Draft, columns: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    for column in columns[counts == 0]:
        name = feature_name(draft, int(column))
        raise InvalidData(f"feature {name!r} has no value in the training part; leave it out, or say impute: 0.0")


def zero_behind_end(inputs: ArrayFile, lengths: ArrayFile) -> None:
    """Have nothing but zeros behind the end of each sequence, whatever stood there."""
    for start, rows in inputs.pieces():
        behind = np.arange(rows.shape[1]) >= lengths.rows(start, len(rows))[:, np.newaxis]
        if rows[behind].any():
            rows[behind] = 0.0
            inputs.put(start, rows)
