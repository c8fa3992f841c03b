"""Parquet, whose index is compared with limits before a column is read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.streams import reading
from bncore.data.importing.table import Table

_ROWS = 65_536


def parquet_table(path: Path, what: str, check: Callable[[], None], part: str | None = None) -> Table:
    """The table of a Parquet file. Raises `InvalidData` for one that is damaged, or claims too much."""
    with reading(what), parquet.ParquetFile(path, memory_map=False) as file:
        index = file.metadata
        names = tuple(file.schema_arrow.names)
        leaves = index.num_columns
        values = sum(_values(index.row_group(group)) for group in range(min(index.num_row_groups, bounds.ENTRIES)))
    if leaves > bounds.FEATURES or len(names) > bounds.FEATURES:
        raise InvalidData(f"{what} has {leaves:,} columns; at most {bounds.FEATURES:,} are taken")
    if len(set(names)) < len(names):
        raise InvalidData(f"{what} has columns of the same name; rename them")
    if index.num_rows > 3 * bounds.EXAMPLES or values > bounds.FILE_BYTES:
        raise InvalidData(f"{what} says that it has {index.num_rows:,} rows and {values:,} bytes, more than are taken")

    def batches() -> Iterator[pa.RecordBatch]:
        at_once = max(1, min(_ROWS, bounds.PIECE_BYTES // (8 * max(1, leaves))))
        with reading(what):
            file = parquet.ParquetFile(path, memory_map=False)
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


def _values(group: parquet.RowGroupMetaData) -> int:
    """Bytes of a group as they are unpacked, or a byte a value if that is more: runs of one value pack well."""
    columns = [group.column(place) for place in range(group.num_columns)]
    return sum(max(int(column.total_uncompressed_size), int(column.num_values)) for column in columns)
