"""Series and recordings as tables: CSV by the standard library, Parquet by pyarrow, which is imported only for that.

Invariant: a number in a table is the number that was measured, to the bit; what is not finite is there too.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bncore.figures.results import Steps, Values
from bncore.recording import Recording

TableFormat = Literal["csv", "parquet"]
Columns = dict[str, Any]


def of_series(series: Mapping[str, tuple[Steps, Values]], form: TableFormat) -> bytes:
    """A row a point: key, step, value."""
    counts = [len(steps) for steps, _ in series.values()]
    steps = [steps for steps, _ in series.values()] or [np.empty(0, dtype=np.int64)]
    values = [values for _, values in series.values()] or [np.empty(0)]
    keys = np.repeat(np.array(list(series), dtype=object), counts)
    return _written({"key": keys, "step": np.concatenate(steps), "value": np.concatenate(values)}, form)


def of_recordings(recordings: Sequence[Recording], form: TableFormat) -> bytes:
    """A row a number: step, array, where in it, value; scalars are arrays without axes.

    Of the axis `site` there are name, depth and role; of every other one the place along it, counted from 0. Where an
    array has no such axis the cell is empty.
    """
    axes = sorted({axis for one in recordings for named in one.axes.values() for axis in named} - {"site"})
    names = ("step", "array", "site", "depth", "role", *axes, "value")
    columns: Columns = {name: [] for name in names}
    for recording in recordings:
        for row in _rows(recording):
            for name in names:
                columns[name].append(row.get(name))
    return _written(columns, form)


def of_columns(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Columns of numbers or of texts as Parquet, each of the type of what is in it."""
    import pyarrow as pa

    return _stored(pa.table({name: pa.array(column) for name, column in columns.items()}))


def _rows(recording: Recording) -> Iterator[dict[str, Any]]:
    for name, value in recording.scalars.items():
        yield {"step": recording.step, "array": name, "value": float(value)}
    for name, array in recording.arrays.items():
        axes = recording.axes[name]
        for place in np.ndindex(*array.shape):
            row: dict[str, Any] = dict(zip(axes, place, strict=True))
            if "site" in row:
                site = recording.sites[row["site"]]
                row |= {"site": site.name, "depth": site.depth, "role": site.role}
            yield {**row, "step": recording.step, "array": name, "value": float(array[place])}


def _written(columns: Columns, form: TableFormat) -> bytes:
    return _csv(columns) if form == "csv" else _parquet(columns)


def _csv(columns: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    writer.writerows([_word(cell) for cell in row] for row in zip(*lists, strict=True))
    return text.getvalue().encode()


def _word(cell: Any) -> Any:
    """Numbers that are not finite by the words that the JSON answers have for them."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
    return repr(cell) if isinstance(cell, float) else cell


def _parquet(columns: Columns) -> bytes:
    # Not at the top: a CSV needs none of its 40 MB.
    import pyarrow as pa

    return _stored(pa.table({name: pa.array(column, **_kind(name)) for name, column in columns.items()}))


def _stored(table: Any) -> bytes:
    import pyarrow.parquet as pq

    made = io.BytesIO()
    pq.write_table(table, made, compression="zstd")
    return made.getvalue()


def _kind(name: str) -> dict[str, Any]:
    """Types that do not depend on whether a table has rows; NaN stays a number."""
    import pyarrow as pa

    words = {"key": pa.string(), "array": pa.string(), "site": pa.string(), "role": pa.string(), "value": pa.float64()}
    return {"type": words.get(name, pa.int64()), "from_pandas": False}
