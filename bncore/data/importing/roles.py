"""What the columns of a table are for: label, part, lengths, inputs; told, or found by names that are usual."""

import re
from dataclasses import dataclass, field
from typing import NoReturn

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.draft import PART_NAMES, Draft
from bncore.data.importing.survey import Column
from bncore.spec.importing import ColumnType, ImportSpec

_LABELS = ("label", "labels", "class", "target", "targets", "y", "category", "species")
_PARTS = ("split", "part", "subset", "partition")
_ROW_NUMBERS = ("", "unnamed: 0", "index")
_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls the columns of an index without a name in Parquet."""
_NAMELESS = re.compile(r"(unnamed: \d+)?")


@dataclass
class Roles:
    """Columns by what they are for."""

    targets: list[Column]
    inputs: list[Column] = field(default_factory=list)
    part: Column | None = None
    lengths: Column | None = None


def find_roles(columns: list[Column], spec: ImportSpec, draft: Draft, one_part: bool) -> Roles:
    """What each column is for; `one_part` says that no file is a part by itself. Raises `InvalidData` where that cannot
    be said."""
    by_name = {column.name: column for column in columns}
    ignored = [_named(by_name, name) for name, kind in spec.columns.items() if kind == "ignore"]
    for name in spec.columns:
        _named(by_name, name)
    left = _without_indices([column for column in columns if column not in ignored], spec, draft)
    part = _part(by_name, left, spec, draft) if one_part else None
    lengths = _named(by_name, spec.lengths) if spec.lengths is not None else None
    left = [column for column in left if column is not part and column is not lengths]
    roles = Roles(_targets(by_name, left, spec, draft), part=part, lengths=lengths)
    left = [column for column in left if column not in roles.targets]
    roles.inputs = _inputs(by_name, left, spec, draft)
    _check_inputs(roles, spec)
    return roles


def _named(by_name: dict[str, Column], name: str) -> Column:
    if name not in by_name:
        known = ", ".join(map(repr, list(by_name)[:20]))
        raise InvalidData(f"there is no column {name!r}; there are {known}{', ...' * (len(by_name) > 20)}")
    return by_name[name]


def _without_indices(left: list[Column], spec: ImportSpec, draft: Draft) -> list[Column]:
    """All columns but those that only number the rows, or are empty: those would be taken for the label, too."""
    told = {*spec.columns, spec.part, spec.lengths}
    for names in (spec.targets, spec.inputs):
        told.update([names] if isinstance(names, str) else names or ())
    kept = []
    for column in left:
        name = column.name.lower()
        if column.name in told:
            kept.append(column)
        elif _INDEX.fullmatch(name):
            draft.note(f"Column {column.name!r} is the index of pandas, and was ignored.")
        elif name in _ROW_NUMBERS and column.counting:
            draft.note(f"Column {column.name!r} is the number of the row, and was ignored.")
        elif _NAMELESS.fullmatch(name) and column.missing == column.rows > 0:
            draft.note("A column without a name is empty, and was ignored.")
        else:
            kept.append(column)
    return kept


def _part(by_name: dict[str, Column], left: list[Column], spec: ImportSpec, draft: Draft) -> Column | None:
    if spec.part is not None:
        return _named(by_name, spec.part)
    for column in left:
        values = {value.lower() for value in column.values or ()}
        if column.name.lower() not in _PARTS or column.name in spec.columns:
            continue
        if values and values <= set(PART_NAMES) and not column.missing:
            draft.note(f"The part of each row was read from column {column.name!r}.")
            return column
        if "train" in values:
            _refuse_other_parts(column, values)
    return None


def _under_columns(column: Column, *types: ColumnType) -> str:
    """An option as a document and the command line take it: by its path, or whole where a path would part the name."""
    if re.fullmatch(r"\w+", column.name):
        return " or ".join(f"columns.{column.name}={kind}" for kind in types)
    return " or ".join(f"columns={{{column.name!r}: {kind}}}" for kind in types)


def _refuse_other_parts(column: Column, values: set[str]) -> NoReturn:
    """Such a column is no feature: what is there to test on would be trained on."""
    others = sorted(values - set(PART_NAMES))
    what = repr(others[0][:40]) if others else f"nothing in {column.missing:,} rows"
    raise InvalidData(
        f"{column.what} says the part of some rows, and has {what} in others; parts are train, validation and test. "
        f"If it is something else, say {_under_columns(column, 'categorical', 'ignore')}"
    )


def _targets(by_name: dict[str, Column], left: list[Column], spec: ImportSpec, draft: Draft) -> list[Column]:
    if spec.targets is not None:
        names = [spec.targets] if isinstance(spec.targets, str) else spec.targets
        return [_named(by_name, name) for name in names]
    if not left:
        raise InvalidData("there is no column left for a label; name one with targets")
    usual = [column for column in left if column.name.lower() in _LABELS]
    if len(usual) > 1:
        raise InvalidData(f"{' and '.join(repr(column.name) for column in usual)} may be the label; say which: targets")
    found = usual[0] if usual else left[-1]
    draft.note(f"The label was read from column {found.name!r}{'' if usual else ', the last one'}.")
    return [found]


def _inputs(by_name: dict[str, Column], left: list[Column], spec: ImportSpec, draft: Draft) -> list[Column]:
    if spec.inputs is not None:
        names = [spec.inputs] if isinstance(spec.inputs, str) else spec.inputs
        chosen = [_named(by_name, name) for name in names]
        wrong = [column.name for column in chosen if column not in left]
        if wrong:
            raise InvalidData(f"column {wrong[0]!r} is named as an input, and as something else, too")
        return chosen
    _say_what_may_be_indices([column for column in left if column.name not in spec.columns], draft)
    return left


def _say_what_may_be_indices(inputs: list[Column], draft: Draft) -> None:
    for column in inputs:
        counts, named = column.counting, column.name.lower() in _ROW_NUMBERS
        if counts or (named and column.numbers):
            what = "counts the rows" if counts else "is called as an index is"
            cure = f"say {_under_columns(column, 'ignore')}" if column.name else "name all others with inputs"
            draft.note(f"Column {column.name!r} {what}, and is an input; {cure} if it is none.")


def _check_inputs(roles: Roles, spec: ImportSpec) -> None:
    if not roles.inputs:
        raise InvalidData("there is no column left for an input; name some with inputs")
    for column in roles.inputs:
        if column.other:
            raise InvalidData(
                f"{column.what} is of the type {column.other}; say {_under_columns(column, 'ignore')}, or convert it"
            )
        told = spec.columns.get(column.name)
        if told == "number" and not column.numbers:
            raise InvalidData(f"{column.what} should have numbers, and has something else")
        if column.categorical and (column.values is None or (told is None and len(column.values) > bounds.CATEGORIES)):
            raise InvalidData(
                f"{column.what} has texts, more than {bounds.CATEGORIES} different ones or after numbers; "
                f"say {_under_columns(column, 'ignore', 'categorical')}"
            )
    kinds = {"lists" if column.depth else "images" if column.image else "numbers" for column in roles.inputs}
    if len(kinds) > 1:
        raise InvalidData(f"inputs have {' and '.join(sorted(kinds))}; name columns of one kind with inputs")
    if kinds == {"images"} and len(roles.inputs) > 1:
        raise InvalidData(f"{' and '.join(c.name for c in roles.inputs[:5])} have images; name one with inputs")
