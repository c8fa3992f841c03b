"""The first look at a table: what each column has in it, before it is decided what it is for."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bncore.data.dataset import InvalidData
from bncore.data.importing.labels import is_name
from bncore.data.importing.pictures import Measured, measure
from bncore.data.importing.table import Table, decoded, is_list, is_number, is_text, lists, parsed, texts

_VALUES = 4096
"""Distinct texts of a column that are counted; with more it can be no category."""


@dataclass(eq=False)
class Column:
    """What a column has in it, in all tables: numbers, texts, lists (depth 1), lists of lists (2), images, or else."""

    name: str
    what: str
    rows: int = 0
    numbers: bool = True
    depth: int = 0
    fixed: bool = False
    """Whether its type says how long a list is."""
    image: bool = False
    other: str = ""
    """A type that means nothing here."""
    missing: int = 0
    values: Counter[str] | None = field(default_factory=Counter)
    """Texts and how often; None where there are too many, or were numbers first."""
    least: int = 0
    longest: int = 0
    width: int = 0
    """Of lists of lists, how long the inner ones are."""
    pictures: Counter[Measured] = field(default_factory=Counter)
    counting: bool = False
    """Whether it counts from 0 or 1, row by row, so far: such a one is the row's number."""

    @property
    def categorical(self) -> bool:
        """Whether it has texts that are no numbers."""
        return not (self.numbers or self.depth or self.image or self.other)


def survey(tables: list[Table], counted: Collection[str]) -> list[Column]:
    """Look at all of the tables, which must have the same columns. Raises `InvalidData` where they have not.

    Of columns named in `counted` values are counted though they be numbers.
    """
    first = tables[0]
    _check_names(tables)
    columns = {name: Column(name, f"column {name!r} of {first.what}") for name in first.names}
    for table in tables:
        for batch in table.batches():
            if batch.num_columns != len(table.names):
                raise InvalidData(f"{table.what} changes its columns on the way")
            for name, content in zip(table.names, batch.columns, strict=True):
                _look(columns[name], decoded(content), name in counted)
    return list(columns.values())


def image_bytes(column: pa.Array, what: str) -> list[bytes]:
    """The content of images, which stand as bytes, or as the `bytes` of a structure."""
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    found: list[bytes] = column.to_pylist()
    if None in found:
        raise InvalidData(f"{what} has a row without an image, or with its path alone; store the bytes of the file")
    return found


def _check_names(tables: list[Table]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if set(table.names) != set(first.names):
            lacking = sorted(set(table.names) ^ set(first.names))[:10]
            raise InvalidData(f"{table.what} and {first.what} have different columns: {', '.join(map(repr, lacking))}")
    for name in first.names:
        if name and not is_name(name):
            raise InvalidData(f"{first.what} has a column whose name is too long or cannot be shown: {name[:40]!a}")


def _look(column: Column, content: pa.Array, counted: bool) -> None:
    kind = content.type
    if is_number(kind):
        _look_at_numbers(column, content)
    elif is_text(kind):
        _look_at_texts(column, content, counted)
    elif is_list(kind):
        _look_at_lists(column, content)
    elif _is_image(kind):
        column.numbers, column.image = False, True
        column.pictures.update(measure(data, column.what) for data in image_bytes(content, column.what))
    else:
        column.numbers, column.other = False, str(kind)
    column.rows += len(content)


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _look_at_numbers(column: Column, content: pa.Array) -> None:
    column.missing += content.null_count
    column.values = None
    if pa.types.is_integer(content.type):
        _look_for_counting(column, content)


def _look_at_texts(column: Column, content: pa.Array, counted: bool) -> None:
    found = parsed(content) if column.numbers else None
    if found is not None:
        column.missing += found.null_count
        _look_for_counting(column, found)
        if not counted:
            # Should texts follow further on, they are not all of its values.
            column.values = None
            return
    else:
        column.numbers = column.counting = False
    _count(column, texts(content))


def _count(column: Column, cleaned: pa.Array) -> None:
    if not column.numbers:
        column.missing += cleaned.null_count
    if column.values is None:
        return
    for value in pc.value_counts(cleaned.drop_null()):
        column.values[value["values"].as_py()] += value["counts"].as_py()
        if len(column.values) > _VALUES:
            column.values = None
            return


def _look_for_counting(column: Column, content: pa.Array) -> None:
    if content.null_count or (column.rows and not column.counting):
        column.counting = False
        return
    found = content.to_numpy(zero_copy_only=False)
    if not len(found):
        return
    if not column.rows:
        column.counting = found[0] in (0, 1)
        column.least = int(found[0]) if column.counting else 0
    expected = np.arange(column.rows, column.rows + len(found)) + column.least
    column.counting = column.counting and bool((found == expected).all())


def _look_at_lists(column: Column, content: pa.Array) -> None:
    column.numbers, column.values = False, None
    column.fixed = pa.types.is_fixed_size_list(content.type)
    counts, inner = lists(content, column.what)
    depth = 1
    if is_list(inner.type):
        depth = 2
        widths, inner = lists(inner, column.what)
        _take_width(column, widths)
    if not (is_number(inner.type) or is_text(inner.type)) or is_list(inner.type):
        column.other = str(content.type)
    if column.depth not in (0, depth):
        raise InvalidData(f"{column.what} has lists and lists of lists")
    column.depth = depth
    if len(counts):
        column.least = min(column.least, int(counts.min())) if column.rows else int(counts.min())
        column.longest = max(column.longest, int(counts.max()))


def _take_width(column: Column, widths: "np.ndarray") -> None:
    if not len(widths):
        return
    wanted = column.width or int(widths[0])
    if (widths != wanted).any():
        raise InvalidData(f"{column.what} has steps of different numbers of features; each step wants {wanted}")
    column.width = wanted
