"""CSV: delimiter, header and decimal mark of a file, found from its first lines or told; its rows as batches of texts.

Invariant: each row has as many cells as the first, every byte is UTF-8, and what is not so is refused by its line.
"""

import codecs
import csv
import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import csv as arrow_csv

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.decimals import Decimal, decimal_of, with_point, with_points
from bncore.data.importing.streams import Capped, is_packed, plain, unpacked
from bncore.data.importing.table import MISSING, Table
from bncore.spec.importing import CsvSpec

Delimiter = Literal[",", ";", "\t", "|", " "]
_DELIMITERS: tuple[Delimiter, ...] = ("\t", ";", ",", "|", " ")
"""The likeliest first: commas stand in numbers, too, where these are separated by semicolons."""
_NAMED = {"\t": "a tab", " ": "a space"}
_HEAD_BYTES = 2**20
_LINES = 50
_BLOCK_BYTES = 4 * 2**20
"""A row that reaches over two ends of such blocks is refused."""
_SMALL_BLOCK_BYTES = 2**19
"""Arrow reads 32 blocks ahead, so they are small until a row reaches over two of their ends."""
_COLUMN_BYTES = 1024
"""Of a column in a block: each costs some time in each block, however few rows it has there."""


class _Utf8(io.RawIOBase):
    """A stream without its byte order mark, checked while it is read."""

    def __init__(self, raw: Capped, what: str) -> None:
        self._raw = raw
        self._what = what
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = 1
        self._begun = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._raw.read(size if size >= 0 else bounds.PIECE_BYTES)
        if not self._begun:
            self._begun = True
            piece = self._without_mark(piece)
        self._check(piece)
        return piece

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _without_mark(self, piece: bytes) -> bytes:
        if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InvalidData(f"{self._what} is UTF-16; save it as UTF-8")
        # A piece is never shorter than the mark, unless the file is; an empty piece would be taken for the end.
        return piece.removeprefix(codecs.BOM_UTF8) or self._raw.read(bounds.PIECE_BYTES)

    def _check(self, piece: bytes) -> None:
        at = piece.find(b"\0")
        if at >= 0:
            line = self._line + piece.count(b"\n", 0, at)
            raise InvalidData(f"{self._what} has a NUL byte in line {line}: it is no text, or UTF-16; save it as UTF-8")
        try:
            self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            line = self._line + error.object.count(b"\n", 0, error.start)
            raise InvalidData(f"{self._what} is not UTF-8 in line {line}; save it as UTF-8") from None
        self._line += piece.count(b"\n")


@dataclass(frozen=True)
class _Form:
    delimiter: str
    header: bool
    names: tuple[str, ...]
    decimal: Decimal


def csv_table(path: Path, what: str, spec: CsvSpec | None, check: Callable[[], None], part: str | None = None) -> Table:
    """The table of a CSV file, packed by gzip, bzip2, xz or not. Raises `InvalidData` for what is none."""
    told = spec or CsvSpec()
    form = _form(_head(path, what), told, what)
    notes = []
    if told.delimiter is None:
        notes.append(f"Cells are separated by {_NAMED.get(form.delimiter, repr(form.delimiter))}.")
    if told.header is None:
        notes.append("The first line names the columns." if form.header else "No line names the columns.")
    if told.decimal is None and form.decimal == ",":
        notes.append("Numbers have a decimal comma.")

    def batches() -> Iterator[pa.RecordBatch]:
        return _batches(path, what, form, check)

    return Table(what, form.names, batches, part, notes=tuple(notes))


def _opened(path: Path, what: str) -> _Utf8:
    with path.open("rb") as file:
        head = file.read(8)
    if not is_packed(head):
        return _Utf8(plain(path), what)
    return _Utf8(unpacked(path.open("rb"), head, what, path.stat().st_size), what)


def _head(path: Path, what: str) -> str:
    """The first lines, whole ones unless there is only one."""
    with closing(_opened(path, what)) as stream:
        head = b""
        while len(head) < _HEAD_BYTES and (piece := stream.read(_HEAD_BYTES)):
            head += piece
    text = head.decode("utf-8", "ignore")
    return text[: text.rfind("\n") + 1] or text if len(head) >= _HEAD_BYTES else text


def _form(head: str, told: CsvSpec, what: str) -> _Form:
    choices = (told.delimiter,) if told.delimiter is not None else _DELIMITERS
    rows = {choice: _rows(head, choice) for choice in choices}
    delimiter = _delimiter(rows)
    lines = rows[delimiter]
    if not lines:
        raise InvalidData(f"{what} has no lines in it that are CSV; is there a quote without an end?")
    width = len(lines[0])
    if width > bounds.COLUMNS:
        raise InvalidData(f"{what} has {width:,} columns; at most {bounds.COLUMNS:,} are taken, and more as an npz")
    if width < 2:
        raise InvalidData(f"{what} has one column only; a label and an input are wanted, separated by csv.delimiter")
    decimal = decimal_of(itertools.chain(*lines), told.decimal, what)
    read = [[with_point(cell) for cell in line] for line in lines] if decimal == "," else lines
    header = _is_header(read) if told.header is None else told.header
    names = _names(lines[0]) if header else tuple(map(str, range(width)))
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < width else []
    if twice:
        raise InvalidData(f"{what} has columns of the same name: {', '.join(map(repr, twice[:10]))}; rename them")
    return _Form(delimiter, header, names, decimal)


def _names(cells: list[str]) -> tuple[str, ...]:
    names = [name.strip() for name in cells]
    if names.count("") > 1:
        # As pandas calls them: spreadsheets leave empty columns behind.
        names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    return tuple(names)


def _rows(head: str, delimiter: str) -> list[list[str]]:
    """The first lines in cells; none where this is no delimiter of theirs."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == _LINES:
                break
    except csv.Error:
        # A cell of more than 128 KiB, such as all of a wide line.
        return []
    return rows


def _delimiter(rows: dict[Delimiter, list[list[str]]]) -> Delimiter:
    """The first by which all lines have as many cells, and more than one; else what cuts the first line most."""
    for delimiter, lines in rows.items():
        widths = {len(line) for line in lines}
        if len(widths) == 1 and max(widths) > 1:
            return delimiter
    return max(rows, key=lambda delimiter: len(rows[delimiter][0]) if rows[delimiter] else 0)


def _is_header(rows: list[list[str]]) -> bool:
    """A first line without any number, where the lines below have some, or no word of the first line."""
    if any(_is_number(cell) for cell in rows[0]):
        return False
    below = rows[1:]
    if any(_is_number(cell) for row in below for cell in row):
        return True
    return not any(set(column[1:]) & {column[0]} for column in zip(*rows, strict=False))


def _is_number(cell: str) -> bool:
    if cell.strip() in MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _block_bytes(form: _Form, least: int = _BLOCK_BYTES) -> int:
    return max(least, _COLUMN_BYTES * len(form.names))


class _RowTooLong(Exception):
    """A row reaches over two ends of blocks."""


def _batches(path: Path, what: str, form: _Form, check: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    done = 0
    try:
        for batch in _in_blocks(path, what, form, check, _block_bytes(form, _SMALL_BLOCK_BYTES)):
            done += batch.num_rows
            yield batch
        return
    except _RowTooLong:
        pass
    # Once more from the beginning, in larger blocks, without the rows that were given already.
    try:
        for batch in _in_blocks(path, what, form, check, _block_bytes(form)):
            if batch.num_rows > done:
                yield batch.slice(done)
            done = max(0, done - batch.num_rows)
    except _RowTooLong:
        raise InvalidData(
            f"{what} has a row of more than {_block_bytes(form):,} bytes; is there a quote without an end?"
        ) from None


def _in_blocks(
    path: Path, what: str, form: _Form, check: Callable[[], None], block_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Raises `_RowTooLong`."""
    ragged: list[arrow_csv.InvalidRow] = []

    def note(row: arrow_csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    with closing(_opened(path, what)) as stream:
        try:
            reader = arrow_csv.open_csv(
                pa.PythonFile(stream, mode="r"),
                arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=block_bytes,
                    column_names=list(map(str, range(len(form.names)))),
                    skip_rows_after_names=int(form.header),
                ),
                arrow_csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=note),
                arrow_csv.ConvertOptions(
                    check_utf8=False,
                    strings_can_be_null=False,
                    column_types={str(place): pa.string() for place in range(len(form.names))},
                ),
            )
            while True:
                check()
                batch = reader.read_next_batch()
                if form.decimal == ",":
                    columns = [with_points(column, what) for column in batch.columns]
                    batch = pa.RecordBatch.from_arrays(columns, batch.schema.names)
                yield batch
        except StopIteration:
            return
        except pa.ArrowException as error:
            if "straddling" in str(error) and not ragged:
                raise _RowTooLong from None
            raise _refusal(what, form, ragged, error) from None


def _refusal(what: str, form: _Form, ragged: list[arrow_csv.InvalidRow], error: Exception) -> InvalidData:
    if ragged:
        row = ragged[0]
        where = f"row {row.number}" if row.number is not None else f"the row {row.text[:40]!r}"
        return InvalidData(
            f"{what} has {row.actual_columns} cells in {where}, and {row.expected_columns} in the first, separated by "
            f"{form.delimiter!r}; is a delimiter within a cell that is not quoted, or the first row none of the table?"
        )
    return InvalidData(f"{what} is no CSV: {str(error).splitlines()[0][:200]}")
