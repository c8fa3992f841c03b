"""Parquet, whose index is compared with limits before it is read, and again before a column is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.streams import reading
from bncore.data.importing.table import Table

_INDEX_BYTES = 16 * 2**20
"""At the end of a file; as objects it takes twenty times as much."""
_BATCH_BYTES = 16 * 2**20
_ROWS = 65_536
_BUFFER_BYTES = 64 * 2**20
"""Of all columns together; without buffers whole groups of rows are held."""
_VALUES = 2**24
"""Of one row."""


def parquet_table(path: Path, what: str, check: Callable[[], None], part: str | None = None) -> Table:
    """The table of a Parquet file. Raises `InvalidData` for one that is damaged, or claims too much."""
    _refuse_large_index(path, what)
    with reading(what), parquet.ParquetFile(path, memory_map=False) as file:
        index = file.metadata
        names = tuple(file.schema_arrow.names)
    _refuse_wide(what, index, names)
    groups = [index.row_group(group) for group in range(index.num_row_groups)]
    values = sum(group.column(place).num_values for group in groups for place in range(group.num_columns))
    size = sum(group.column(place).total_uncompressed_size for group in groups for place in range(group.num_columns))
    if index.num_rows > 3 * bounds.EXAMPLES or max(values, size) > bounds.FILE_BYTES:
        raise InvalidData(f"{what} says that it has {index.num_rows:,} rows and {size:,} bytes, more than are taken")
    a_row = values // max(1, index.num_rows)
    if a_row > _VALUES:
        raise InvalidData(f"{what} has {a_row:,} numbers in a row; at most {_VALUES:,} are taken")
    at_once = max(1, min(_ROWS, _BATCH_BYTES // (8 * max(1, a_row))))

    def batches() -> Iterator[pa.RecordBatch]:
        buffer = max(4096, _BUFFER_BYTES // max(64, index.num_columns))
        with reading(what):
            # Buffering ahead would hold a whole group of rows, which may be the whole file.
            file = parquet.ParquetFile(path, memory_map=False, buffer_size=buffer, pre_buffer=False)
        with file:
            pieces = file.iter_batches(batch_size=at_once, use_threads=False)
            while True:
                check()
                with reading(what):
                    batch = next(pieces, None)
                if batch is None:
                    return
                yield batch

    return Table(what, names, batches, part)


def _refuse_large_index(path: Path, what: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read()
    index_bytes = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or index_bytes > size:
        raise InvalidData(f"{what} is damaged or truncated: a Parquet file ends with its index")
    if index_bytes > _INDEX_BYTES:
        raise InvalidData(f"{what} has an index of {index_bytes:,} bytes: too many columns, or groups of too few rows")


def _refuse_wide(what: str, index: parquet.FileMetaData, names: tuple[str, ...]) -> None:
    columns = max(index.num_columns, len(names))
    if columns > bounds.COLUMNS:
        raise InvalidData(f"{what} has {columns:,} columns; at most {bounds.COLUMNS:,} are taken, and more as an npz")
    if len(set(names)) < len(names):
        raise InvalidData(f"{what} has columns of the same name; rename them")
