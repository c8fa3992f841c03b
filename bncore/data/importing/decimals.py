"""The decimal mark of a CSV: a point, or the comma that much of Europe writes.

Invariant: no number is read otherwise than it is meant: where a comma or a point could be either mark of a number, the
file is refused, and the text says what would tell.
"""

import re
from collections.abc import Iterable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bncore.data.dataset import InvalidData

Decimal = Literal[".", ","]
_SHOWN_CHARS = 20
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_COMMA = rf"([+-]?[0-9]*),([0-9]+{_EXPONENT})"
_POINT = rf"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+){_EXPONENT}"
_COMMAS_OF_THOUSANDS = r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?"
_POINTS_OF_THOUSANDS = r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]*)?"


def decimal_of(cells: Iterable[str], told: Decimal | None, what: str) -> Decimal:
    """The mark in the cells of the first lines. Raises `InvalidData` where it cannot be known."""
    if told is not None:
        return told
    trimmed = [cell.strip() for cell in cells]
    with_comma = [cell for cell in trimmed if _is(_COMMA, cell)]
    with_point = next((cell for cell in trimmed if _is(_POINT, cell) or _is(_POINTS_OF_THOUSANDS, cell)), None)
    thousands = [cell for cell in trimmed if _is(_COMMAS_OF_THOUSANDS, cell)]
    apart = next((cell for cell in thousands if not _is(_COMMA, cell)), None)
    if apart is not None:
        raise InvalidData(f"{what} has commas between thousands, {_shown(apart)}; write such numbers without them")
    if not with_comma:
        return "."
    if with_point is not None:
        raise InvalidData(
            f"{what} has {_shown(with_comma[0])} and {_shown(with_point)}: is comma or point the decimal mark? Write "
            "all numbers with one, and thousands without any"
        )
    if len(thousands) == len(with_comma):
        raise InvalidData(
            f'{what} has {_shown(with_comma[0])}, which may be a fraction or thousands; say csv.decimal: ",", '
            """as by --set 'csv.decimal=","', or write thousands without a comma"""
        )
    return ","


def with_point(cell: str) -> str:
    """A number with a decimal comma as Python writes it, any other text as it is."""
    found = re.fullmatch(_COMMA, cell.strip())
    return cell if found is None else f"{found[1]}.{found[2]}"


def with_points(column: pa.Array, what: str) -> pa.Array:
    """The same of a column of texts. Raises `InvalidData` for a number that has a point."""
    strange = pc.match_substring_regex(column, rf"^\s*(?:{_POINT}|{_POINTS_OF_THOUSANDS})\s*$")
    if pc.any(strange).as_py():
        cell = column.filter(strange)[0].as_py().strip()
        raise InvalidData(
            f"{what} has {_shown(cell)} among numbers with a decimal comma; write all of them with one mark"
        )
    return pc.replace_substring_regex(column, rf"^\s*{_COMMA}\s*$", r"\1.\2")


def _is(form: str, cell: str) -> bool:
    return re.fullmatch(form, cell) is not None


def _shown(cell: str) -> str:
    return cell[:_SHOWN_CHARS]
