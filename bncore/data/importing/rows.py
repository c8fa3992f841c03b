"""Rows of a table become examples: features, sequences or images, and what is to be predicted of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bncore.data.dataset import IGNORED, InvalidData
from bncore.data.importing.arrays import Array
from bncore.data.importing.labels import Labels
from bncore.data.importing.pictures import decode
from bncore.data.importing.single import to_single
from bncore.data.importing.survey import Column, image_bytes
from bncore.data.importing.table import decoded, is_text, lists, numbers, texts
from bncore.spec.importing import ImportSpec

_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")


@dataclass(frozen=True)
class Rows:
    """Some rows of a table: their columns by name, and the number of the first, from 0."""

    columns: dict[str, pa.Array]
    first: int
    count: int


class Inputs(ABC):
    """What networks see of a row; `shape` is that of one example."""

    shape: tuple[int, ...]
    names: list[str] | None = None

    @abstractmethod
    def read(self, batch: Rows) -> Array:
        """Examples (k, *shape)."""


class Features(Inputs):
    """A number for each column, and one for each value of a categorical one."""

    def __init__(self, columns: list[Column], spec: ImportSpec, note: Callable[[str], None]) -> None:
        self._columns = columns
        self._note = note
        self._categories: dict[str, list[str]] = {}
        self.names = []
        for column in columns:
            if column.categorical or spec.columns.get(column.name) == "categorical":
                if column.values is None:
                    raise InvalidData(f"{column.what} cannot be categorical: it has no texts, or too many")
                self._categories[column.name] = sorted(column.values)
                self.names += [f"{column.name}={value}" for value in sorted(column.values)]
            else:
                self.names.append(column.name)
        self.shape = (len(self.names),)

    def read(self, batch: Rows) -> Array:
        found = np.empty((batch.count, *self.shape), dtype=np.float32)
        place = 0
        for column in self._columns:
            content = batch.columns[column.name]
            categories = self._categories.get(column.name)
            if categories is None:
                found[:, place] = to_single(numbers(content, column.what), said(column), self._note)
                place += 1
            else:
                cleaned = texts(content)
                there = pc.is_null(cleaned).to_numpy(zero_copy_only=False)
                for value in categories:
                    is_value = pc.equal(cleaned, value).fill_null(False).to_numpy(zero_copy_only=False)
                    found[:, place] = np.where(there, np.nan, is_value)
                    place += 1
        return found


class Flat(Inputs):
    """Lists that all have as many numbers, as one vector."""

    def __init__(self, column: Column, note: Callable[[str], None]) -> None:
        self._column = column
        self._note = note
        self.shape = (column.longest,)

    def read(self, batch: Rows) -> Array:
        counts, content = lists(batch.columns[self._column.name], self._column.what)
        found = to_single(numbers(content, self._column.what), said(self._column), self._note)
        return found.reshape(len(counts), *self.shape)


class Sequences(Inputs):
    """Lists of numbers, a column a feature, or lists of steps; zeros behind the end."""

    def __init__(self, columns: list[Column], note: Callable[[str], None]) -> None:
        self._columns = columns
        self._note = note
        nested = columns[0].depth == 2
        if any(column.depth != columns[0].depth for column in columns) or (nested and len(columns) > 1):
            raise InvalidData("inputs have lists and lists of lists; name one column of these, or several of those")
        self.shape = (max(column.longest for column in columns), columns[0].width if nested else len(columns))
        self.varies = min(column.least for column in columns) < self.shape[0]
        self.names = None if nested or len(columns) == 1 else [column.name for column in columns]

    def read(self, batch: Rows) -> Array:
        lengths, content = self._content(batch)
        found = np.zeros((len(lengths), *self.shape), dtype=np.float32)
        found[np.arange(self.shape[0]) < lengths[:, np.newaxis]] = content
        return found

    def lengths(self, batch: Rows) -> NDArray[np.int64]:
        """Steps of each sequence (k,)."""
        column = self._columns[0]
        return lists(batch.columns[column.name], column.what)[0]

    def _content(self, batch: Rows) -> tuple[NDArray[np.int64], Array]:
        lengths: NDArray[np.int64] | None = None
        features: list[Array] = []
        for column in self._columns:
            counts, content = lists(batch.columns[column.name], column.what)
            if column.depth == 2:
                content = lists(content, column.what)[1]
            if lengths is not None and (counts != lengths).any():
                row = batch.first + int(np.flatnonzero(counts != lengths)[0]) + 1
                raise InvalidData(f"{column.what} has another length than {self._columns[0].name!r} in row {row}")
            lengths = counts
            features.append(to_single(numbers(content, column.what), said(column), self._note))
        assert lengths is not None
        nested = self._columns[0].depth == 2
        return lengths, features[0].reshape(-1, self.shape[1]) if nested else np.stack(features, axis=1)


class Pictures(Inputs):
    """Images in a column."""

    def __init__(self, column: Column, shape: tuple[int, int, int]) -> None:
        self._column = column
        self.shape = shape

    def read(self, batch: Rows) -> Array:
        channels, height, width = self.shape
        content = image_bytes(batch.columns[self._column.name], self._column.what)
        if not content:
            return np.empty((0, *self.shape), dtype=np.uint8)
        return np.stack(
            [
                decode(data, f"row {batch.first + place + 1} of {self._column.what}", channels, (height, width))
                for place, data in enumerate(content)
            ]
        )


def classes(
    content: pa.Array, what: str, labels: Labels, *, are_numbers: bool = False, names: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Numbers of classes (k,), -1 where nothing is said.

    `are_numbers` says that all texts of the column are numbers, so that 1 and 1.0 are one class; `names` are what
    classes are called that stand as numbers.
    """
    if pa.types.is_boolean(content.type):
        # Of Arrow's types, truth values count as numbers, and their names are none.
        content, are_numbers = content.cast(pa.string()), False
    if is_text(content.type) or names is not None:
        coded = (texts(content) if is_text(content.type) else content).dictionary_encode()
        called = [_called(value, labels, are_numbers, names) for value in coded.dictionary.to_pylist()]
        numbered = np.array([IGNORED if name is None else labels.number(name) for name in called] or [IGNORED])
        places = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(places < 0, IGNORED, numbered[places])
    # Integers stay what they are: in double precision two large ones may be the same.
    found = content.to_numpy(zero_copy_only=False) if _is_whole(content) else numbers(content, what)
    there = ~np.isnan(found)
    encoded = np.full(found.shape, IGNORED, dtype=np.int64)
    if there.any():
        encoded[there] = labels.encode(found[there])
    return encoded


def said(column: Column) -> str:
    """A column at the beginning of a sentence."""
    return f"Column {column.name!r}"


def rows_of(batch: pa.RecordBatch, names: tuple[str, ...], first: int) -> Rows:
    """A batch, whose first row has that number."""
    columns = {name: decoded(column) for name, column in zip(names, batch.columns, strict=True)}
    return Rows(columns, first, batch.num_rows)


def _is_whole(content: pa.Array) -> bool:
    return bool(pa.types.is_integer(content.type)) and not content.null_count


def _called(value: object, labels: Labels, are_numbers: bool, names: Sequence[str] | None) -> str | None:
    if names is not None:
        # What is no number of a class stands for one that is not known, as -1 does.
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    if not are_numbers:
        return str(value)
    text = str(value)
    return str(int(text)) if _INTEGER.fullmatch(text) else labels.whole(float(text))
