"""Numbers with a decimal comma are read as they are meant, or refused with what would tell."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncore.data.dataset import InvalidData
from tests.bncore.data.importing.made import Imported, imported

VALUES = np.array([[1.5, 2.0, -0.25], [2.5, 3.0, 1e-3], [1.0, 1234.5, 4.0]])
"""What `written` writes, each row twice."""


def values(found: Imported) -> np.ndarray:
    """All different rows, in order."""
    return np.unique(found.array("train", "inputs"), axis=0)


def written(delimiter: str, mark: str, header: str = "", quote: str = "") -> bytes:
    cells = [["1.5", "2", "-.25", "u"], ["2.50", "3.0", "1E-3", "v"], ["1", " 1234.5 ", "4", "u"]]
    rows = [[quote + cell.replace(".", mark) + quote for cell in row] for row in cells]
    lines = [*([header.replace(";", delimiter)] if header else ()), *(delimiter.join(row) for row in rows * 2)]
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("header", ["", "Länge;Breite;a,b;y"])
@pytest.mark.parametrize(("delimiter", "quote"), [(";", ""), ("\t", ""), (",", '"')])
def test_decimal_commas_are_points_wherever_they_are_no_delimiter(
    tmp_path: Path, delimiter: str, quote: str, header: str
) -> None:
    if delimiter == ",":
        header = header.replace("a,b", "c")
    expected = imported(tmp_path / "1", "a.csv", written(delimiter, ".", header, quote), targets="y" if header else "3")
    found = imported(tmp_path / "2", "a.csv", written(delimiter, ",", header, quote), targets="y" if header else "3")
    np.testing.assert_array_equal(values(found), np.unique(VALUES.astype(np.float32), axis=0))
    np.testing.assert_array_equal(found.array("train", "inputs"), expected.array("train", "inputs"))
    assert found.described["classes"] == expected.described["classes"] == ["u", "v"]
    assert "Numbers have a decimal comma." in str(found.report)
    assert "decimal comma" not in str(expected.report)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a;b;y\n1,5;2.5;u\n2,5;3;v\n", {}, "has 1,5 and 2.5: is comma or point the decimal mark"),
        ("a;b;y\n1.234,5;2;u\n2,5;3;v\n", {}, "has 2,5 and 1.234,5: is comma or point"),
        ("a;b;y\n1,500;2;u\n2,750;3;v\n", {}, 'has 1,500, which may be a fraction or thousands; say csv.decimal: ","'),
        ("a;b;y\n1,500,000;2;u\n2,5;3;v\n", {}, "has commas between thousands, 1,500,000"),
        ("a;b;y\n1,500.25;2;u\n2;3;v\n", {}, "has commas between thousands, 1,500.25"),
        ("a;b;y\n1,5;2;u\n" + "2,5;3;v\n" * 60 + "1.250;3;v\n", {}, "has 1.250 among numbers with a decimal comma"),
        ("a;b;y\n1,5;2;u\n2.5;3;v\n", {"csv": {"decimal": ","}}, "has 2.5 among numbers with a decimal comma"),
    ],
)
def test_what_could_be_read_two_ways_is_refused(tmp_path: Path, text: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidData, match=re.escape(said)):
        imported(tmp_path, "a.csv", text.encode(), **options)


def test_a_mark_that_was_told_decides(tmp_path: Path) -> None:
    text = b"a;b;y\n" + b"1,500;2;u\n2,750;3;v\n" * 2
    found = imported(tmp_path, "a.csv", text, csv={"decimal": ","})
    np.testing.assert_array_equal(values(found), np.array([[1.5, 2], [2.75, 3]], np.float32))
    assert "decimal comma" not in str(found.report)


def test_texts_with_commas_and_points_stay_texts(tmp_path: Path) -> None:
    text = "a;when;y\n" + "1,5;01.02.2024;x, y\n2,5;02.02.2024;v1.5\n" * 2
    found = imported(tmp_path, "a.csv", text.encode(), columns={"when": "ignore"})
    assert found.described["classes"] == ["v1.5", "x, y"]


def test_a_refusal_names_the_file_as_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"^Größe der Häuser \(2\)\.csv has one column only"):
        imported(tmp_path, "Größe der Häuser (2).csv", b"a\n1\n2\n")
