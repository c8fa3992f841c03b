"""A table as its readers give it: batches of columns that can be gone through twice, and what columns have in them.

CSV, Parquet and the Hugging Face library all end here, as Arrow's batches; texts of numbers are numbers.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bncore.data.dataset import InvalidData
from bncore.data.importing.streams import reading

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-nan", "<NA>")
"""What stands in a text for a value that is not there."""


@dataclass(frozen=True)
class Table:
    """Columns `names` in batches; `part` where all rows are of one part. Classes may have names of their own."""

    what: str
    names: tuple[str, ...]
    batches: Callable[[], Iterator[pa.RecordBatch]]
    part: str | None = None
    class_names: dict[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type has texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type has numbers, truth values counted."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type has lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def decoded(column: pa.Array) -> pa.Array:
    """The same without a dictionary and without an extension's name."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def texts(column: pa.Array) -> pa.Array:
    """Texts without space around them, null where nothing is said."""
    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(trimmed, value_set=pa.array(MISSING, type=trimmed.type))
    return pc.if_else(missing, pa.scalar(None, type=trimmed.type), trimmed)


def parsed(column: pa.Array) -> pa.Array | None:
    """Texts as numbers, null where nothing is said; None where one is no number."""
    # Most columns are plain numbers, and each call costs time in tables of many columns.
    with contextlib.suppress(pa.ArrowInvalid):
        return column.cast(pa.float64())
    with contextlib.suppress(pa.ArrowInvalid):
        return texts(column).cast(pa.float64())
    return None


def numbers(column: pa.Array, what: str) -> NDArray[np.float64]:
    """Numbers (n,), NaN where nothing is said. `column` is of numbers, or of texts that are such."""
    if is_text(column.type):
        found = parsed(column)
        if found is None:
            raise InvalidData(f"{what} has texts that are no numbers")
        column = found
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    with reading(what):
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def lists(column: pa.Array, what: str) -> tuple[NDArray[np.int64], pa.Array]:
    """How long each list is (n,), and all that is in them, one after the other.

    Raises `InvalidData` for a missing one.
    """
    if column.null_count:
        place = pc.index(pc.is_null(column), True).as_py()
        raise InvalidData(f"{what} has no list in row {place + 1} of a batch; remove the row, or store an empty list")
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return counts, decoded(pc.list_flatten(column))
