"""Tables become a draft: a look at every column, a role for each, and then the rows."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bncore.data.dataset import IGNORED, InvalidData
from bncore.data.importing.draft import PART_NAMES, PARTS, Draft, Layout
from bncore.data.importing.pictures import Measured, turned_note
from bncore.data.importing.roles import Roles, find_roles
from bncore.data.importing.rows import Features, Flat, Inputs, Pictures, Rows, Sequences, classes, rows_of, said
from bncore.data.importing.single import to_single
from bncore.data.importing.survey import Column, survey
from bncore.data.importing.table import Table, lists, numbers, texts
from bncore.spec.data.shape import Task
from bncore.spec.importing import ImportSpec, SignalKind


def read_tables(tables: list[Table], spec: ImportSpec, draft: Draft) -> None:
    """Fill `draft` with the rows of tables, each a part by itself, or one with all. Raises `InvalidData`."""
    tables = sorted(tables, key=lambda table: PARTS.index(table.part or "train"))
    for note in tables[0].notes:
        draft.note(note)
    columns = survey(tables, {*spec.columns, *([spec.part] if spec.part else [])})
    roles = find_roles(columns, spec, draft, one_part=len(tables) == 1 and tables[0].part is None)
    inputs = _inputs(roles, spec, draft)
    task = _task(roles, inputs, spec)
    lengths = roles.lengths is not None or (isinstance(inputs, Sequences) and inputs.varies)
    _say_types(columns, roles, draft)
    draft.columns = inputs.names
    kind: SignalKind = (
        "image" if isinstance(inputs, Pictures) else "sequence" if isinstance(inputs, Sequences) else "vector"
    )
    draft.begin(Layout(kind, inputs.shape, task, len(roles.targets) if task == "regression" else 0, lengths))
    for part, count in _counts(tables, columns, roles).items():
        draft.part(part, count)
    _Rows(roles, inputs, task, draft).store(tables)


def _inputs(roles: Roles, spec: ImportSpec, draft: Draft) -> Inputs:
    first = roles.inputs[0]
    if first.image:
        return Pictures(first, _picture_shape(first, spec, draft))
    if first.depth and spec.kind != "vector" and (first.depth == 2 or first.least < first.longest or spec.kind):
        return Sequences(roles.inputs, draft.note)
    if first.depth and len(roles.inputs) > 1 and spec.kind is None:
        return Sequences(roles.inputs, draft.note)
    if first.depth:
        if len(roles.inputs) > 1 or first.depth == 2 or first.least < first.longest:
            raise InvalidData(
                f"{first.what} has lists of {first.least} to {first.longest}; vectors want one column, "
                "and as many numbers in each row"
            )
        draft.note(
            f"Lists of column {first.name!r} are vectors of {first.longest} numbers; say kind: sequence for steps."
        )
        return Flat(first, draft.note)
    if spec.kind in ("image", "sequence"):
        raise InvalidData(f"{first.what} has numbers, and {spec.kind}s want images or lists")
    return Features(roles.inputs, spec, draft.note)


def _picture_shape(column: Column, spec: ImportSpec, draft: Draft) -> tuple[int, int, int]:
    sizes = Counter[tuple[int, int]]()
    for seen, count in column.pictures.items():
        sizes[seen.size] += count
    if not sizes:
        raise InvalidData(f"{column.what} has no images")
    if len(sizes) > 1 and spec.size is None:
        few = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])
        raise InvalidData(f"{column.what} has images of {len(sizes)} sizes ({few}, ...); say resize: [height, width]")
    height, width = spec.size or next(iter(sizes))
    _say_changes(column.pictures, (height, width), draft)
    channels = 1 if spec.grayscale else max(seen.channels for seen in column.pictures)
    return channels, height, width


def _say_changes(pictures: Counter[Measured], size: tuple[int, int], draft: Draft) -> None:
    turned = sum(count for seen, count in pictures.items() if seen.turned)
    if turned:
        draft.note(turned_note(turned))
    changed = sum(count for seen, count in pictures.items() if seen.size != size)
    if changed:
        draft.note(f"{changed} images were resized to {size[0]} x {size[1]}.")


def _task(roles: Roles, inputs: Inputs, spec: ImportSpec) -> Task:
    steps = roles.targets[0].depth == 1
    task: Task = spec.task or ("tagging" if steps and isinstance(inputs, Sequences) else "classification")
    if task == "tagging" and not isinstance(inputs, Sequences):
        raise InvalidData("tagging wants sequences, and inputs are none; name columns of lists with inputs")
    if roles.lengths is not None and not isinstance(inputs, Sequences):
        raise InvalidData(f"{roles.lengths.what} has lengths, and only lists are sequences that have some")
    for column in roles.targets:
        if column.image or column.other or column.depth > 1 or (column.depth == 1) != (task == "tagging"):
            raise InvalidData(f"{column.what} cannot be predicted by {task}; name another with targets")
        if task == "regression" and not column.numbers:
            raise InvalidData(f"{column.what} has texts, and a regression predicts numbers")
    return task


def _say_types(columns: list[Column], roles: Roles, draft: Draft) -> None:
    categorical = [column for column in roles.inputs if column.categorical]
    for column in categorical[:20]:
        draft.note(f"Column {column.name!r} is categorical: one number for each of {len(column.values or ())} values.")
    used = {*roles.inputs, *roles.targets, roles.part, roles.lengths}
    unused = [column.name for column in columns if column not in used]
    if unused:
        draft.note(f"Not used: {', '.join(map(repr, unused[:20]))}{', ...' * (len(unused) > 20)}.")


def _counts(tables: list[Table], columns: list[Column], roles: Roles) -> dict[str, int]:
    """How many rows each part has."""
    if roles.part is not None:
        counts: Counter[str] = Counter()
        for value, count in (roles.part.values or {}).items():
            counts[_part_of(value, roles.part.what)] += count
        if roles.part.missing or not counts:
            raise InvalidData(f"{roles.part.what} says nothing in {roles.part.missing:,} rows; it wants train or test")
        return {part: counts[part] for part in PARTS if part in counts}
    if len(tables) == 1:
        return {tables[0].part or "train": columns[0].rows}
    return {table.part or "train": sum(batch.num_rows for batch in table.batches()) for table in tables}


def _part_of(value: str, what: str) -> str:
    part = PART_NAMES.get(value.lower())
    if part is None:
        raise InvalidData(f"{what} has {value[:40]!r}; parts are train, validation and test")
    return part


class _Rows:
    def __init__(self, roles: Roles, inputs: Inputs, task: Task, draft: Draft) -> None:
        self._roles = roles
        self._inputs = inputs
        self._task = task
        self._draft = draft

    def store(self, tables: list[Table]) -> None:
        for table in tables:
            for batch in self._batches(table):
                self._store(batch, table)

    def _batches(self, table: Table) -> Iterator[Rows]:
        at_once = self._draft.parts[next(iter(self._draft.parts))].inputs.rows_at_once
        first = 0
        for batch in table.batches():
            for start in range(0, batch.num_rows, at_once):
                yield rows_of(batch.slice(start, at_once), table.names, first + start)
            first += batch.num_rows

    def _store(self, batch: Rows, table: Table) -> None:
        inputs, lengths = self._inputs.read(batch), self._lengths(batch)
        targets = self._targets(batch, table)
        for name, chosen in self._parts(batch, table).items():
            part = self._draft.parts[name]
            part.inputs.append(inputs[chosen])
            part.targets.append(targets[chosen])
            if part.lengths is not None:
                assert lengths is not None
                part.lengths.append(np.clip(lengths[chosen], -1, 2**31 - 1).astype(np.int32))

    def _parts(self, batch: Rows, table: Table) -> dict[str, NDArray[np.bool_] | slice]:
        column = self._roles.part
        if column is None:
            return {table.part or "train": slice(None)}
        said = texts(batch.columns[column.name])
        parts: dict[str, NDArray[np.bool_] | slice] = {}
        for value in pc.unique(said).to_pylist():
            chosen = pc.equal(said, value).to_numpy(zero_copy_only=False)
            part = _part_of(value, column.what)
            parts[part] = chosen | parts[part] if part in parts else chosen
        return parts

    def _lengths(self, batch: Rows) -> NDArray[np.int64] | None:
        column = self._roles.lengths
        if not isinstance(self._inputs, Sequences):
            return None
        steps = self._inputs.lengths(batch)
        if column is None:
            return steps if self._inputs.varies else None
        found = numbers(batch.columns[column.name], column.what)
        wrong = np.flatnonzero(~((found >= 1) & (found <= steps) & (found == np.rint(found))))
        if len(wrong):
            row = batch.first + int(wrong[0]) + 1
            raise InvalidData(
                f"{column.what} has {found[wrong[0]]:g} in row {row}; a length is a whole number from 1 to that of the "
                f"list, which is {steps[wrong[0]]}"
            )
        return found.astype(np.int64)

    def _targets(self, batch: Rows, table: Table) -> NDArray[np.generic]:
        column = self._roles.targets[0]
        if self._task == "regression":
            found = [
                to_single(numbers(batch.columns[target.name], target.what), said(target), self._draft.note)
                for target in self._roles.targets
            ]
            return np.stack(found, axis=1)
        names = table.class_names.get(column.name)
        if self._task == "tagging":
            return self._tags(batch, column, names)
        encoded = classes(
            batch.columns[column.name], column.what, self._draft.labels, are_numbers=column.numbers, names=names
        )
        if (encoded == IGNORED).any():
            row = batch.first + int(np.flatnonzero(encoded == IGNORED)[0]) + 1
            raise InvalidData(f"{column.what} has no label in row {row}; remove the row, or name another with targets")
        return encoded

    def _tags(self, batch: Rows, column: Column, names: Sequence[str] | None) -> NDArray[np.int64]:
        assert isinstance(self._inputs, Sequences)
        counts, content = lists(batch.columns[column.name], column.what)
        wanted = self._inputs.lengths(batch)
        if (counts != wanted).any():
            row = int(np.flatnonzero(counts != wanted)[0])
            place = f"row {batch.first + row + 1}"
            raise InvalidData(f"{column.what} has {counts[row]} classes for {wanted[row]} steps in {place}")
        ends = self._lengths(batch)
        inside = np.arange(self._inputs.shape[0]) < (counts if ends is None else ends)[:, np.newaxis]
        listed = np.arange(self._inputs.shape[0]) < counts[:, np.newaxis]
        found = np.full(inside.shape, IGNORED, dtype=np.int64)
        # What stands behind an end that was told is no class.
        counted = content.filter(pa.array(inside[listed]))
        found[inside] = classes(counted, column.what, self._draft.labels, are_numbers=False, names=names)
        return found
