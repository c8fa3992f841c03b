"""Files as spreadsheets, pandas and phones write them, rather than as one would write them for an import."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from bncore.data.dataset import InvalidData
from client.documents import assign
from tests.bncore.data.importing.made import as_npz, as_zip, imported
from tests.bncore.data.importing.test_formats import as_parquet

CHANCE = np.random.default_rng(5)
SHUFFLED = [int(row) for row in CHANCE.permutation(12)]


def names(made) -> list[str]:
    return [feature.name for feature in made.report.features]


def as_png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_palettes_with_transparency_are_images_as_others(tmp_path: Path) -> None:
    colours = CHANCE.integers(0, 256, (4, 3), np.uint8)
    numbers = CHANCE.integers(0, 4, (6, 5, 4), np.uint8)
    files = {}
    for place, pixels in enumerate(numbers):
        image = Image.fromarray(pixels, "L")
        image.putpalette(colours.tobytes())
        files[f"{'ab'[place % 2]}/{place // 2}.png"] = as_png(image, transparency=bytes([0, 99, 255, 255]))
    made = imported(tmp_path, "a.zip", as_zip(files))
    wanted = colours[numbers[[0, 2, 4, 1, 3, 5]]].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(made.array("train", "inputs"), wanted)
    assert any("Transparency of 6" in note for note in made.report.notes)


@pytest.mark.parametrize("damaged", [b"\x05\0\x1a\x01", b"\1\0\x0f\1\2\0\x9f\x86\1\0\x32\0\0\0"])
def test_exif_that_is_damaged_spoils_no_picture(tmp_path: Path, damaged: bytes) -> None:
    files, exif = {}, b"Exif\0\0II*\0\x08\0\0\0" + damaged
    for place in range(4):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (60 * place, 9, 9)).save(buffer, "JPEG")
        whole = buffer.getvalue()
        # Cameras write no JFIF (the first 20 bytes but two): then Pillow looks into EXIF for the resolution.
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        files[f"{'ab'[place % 2]}/{place}.jpg"] = whole[:2] + segment + whole[20:]
    made = imported(tmp_path, "a.zip", as_zip(files))
    with Image.open(io.BytesIO(whole)) as image:
        np.testing.assert_array_equal(made.array("train", "inputs")[-1], np.asarray(image).transpose(2, 0, 1))


def test_pictures_are_turned_as_their_exif_says_and_the_report_says_so(tmp_path: Path) -> None:
    pixels = CHANCE.integers(0, 256, (8, 5, 3), np.uint8)
    files, wanted = {}, []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        # As a camera that is held so has it stored; then it is shown as it was seen.
        stored = _TURNED[turn](pixels)
        for number in (0, 1):
            files[f"{'ab'[number]}/{turn}.png"] = as_png(Image.fromarray(stored), exif=exif)
            wanted.append(pixels)
    made = imported(tmp_path, "a.zip", as_zip(files))
    np.testing.assert_array_equal(made.array("train", "inputs"), np.stack(wanted).transpose(0, 3, 1, 2))
    assert "14 images were turned or mirrored, as their EXIF says." in made.report.notes
    rows = pa.table({"image": list(files.values()), "label": [name[0] for name in files]})
    table = imported(tmp_path / "2", "a.parquet", as_parquet(rows))
    np.testing.assert_array_equal(table.array("train", "inputs"), made.array("train", "inputs"))
    assert "14 images were turned or mirrored, as their EXIF says." in table.report.notes


_TURNED = {
    # EXIF 2.3, table 6: where the first row and the first column of what is stored are seen.
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: seen.transpose(1, 0, 2)[::-1],
    7: lambda seen: seen[::-1, ::-1].transpose(1, 0, 2),
    8: lambda seen: seen.transpose(1, 0, 2)[:, ::-1],
}


def test_a_shuffled_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    table = pa.table({"a": [0.5] * 6 + [1.5] * 6, "label": ["u", "v"] * 6, "__index_level_0__": SHUFFLED})
    made = imported(tmp_path, "a.parquet", as_parquet(table))
    assert names(made) == ["a"]
    assert "Column '__index_level_0__' is the index of pandas, and was ignored." in made.report.notes
    told = imported(tmp_path / "2", "a.parquet", as_parquet(table), columns={"__index_level_0__": "number"})
    assert names(told) == ["a", "__index_level_0__"]


def test_a_row_number_that_is_asked_for_is_a_feature(tmp_path: Path) -> None:
    text = "index,a,label\n" + "".join(f"{row},{row % 5}.5,{row % 2}\n" for row in range(12))
    assert names(imported(tmp_path, "a.csv", text.encode(), columns={"index": "number"})) == ["index", "a"]


@pytest.mark.parametrize("name", ["Datum", "gekauft am", "Nr."])
def test_what_is_told_of_a_column_can_be_said_as_it_stands(tmp_path: Path, name: str) -> None:
    """A column of dates: the option that the refusal names is given to the command line as it is printed."""
    rows = [f"{1 + row % 28:02d}.{1 + row // 28:02d}.2024;{row % 5},5;{'ab'[row % 2]}" for row in range(200)]
    text = "\n".join([f"{name};Breite;label", *rows]).encode("utf-8-sig")
    with pytest.raises(InvalidData) as refused:
        imported(tmp_path / "1", "a.csv", text)
    ignored, _, _ = str(refused.value).partition("; say ")[2].partition(" or ")
    options = assign({}, ignored)
    assert names(imported(tmp_path / "2", "a.csv", text, **options)) == ["Breite"]


def test_what_may_only_number_the_rows_is_said(tmp_path: Path) -> None:
    text = "id,a,label\n" + "".join(f"{row + 1},{row % 5}.5,{row % 2}\n" for row in range(12))
    made = imported(tmp_path / "1", "a.csv", text.encode())
    assert names(made) == ["id", "a"]
    assert "Column 'id' counts the rows, and is an input; say columns.id=ignore if it is none." in (made.report.notes)
    text = "Unnamed: 0,a,label\n" + "".join(f"{number},{number % 5}.5,{number % 2}\n" for number in SHUFFLED)
    made = imported(tmp_path / "2", "a.csv", text.encode())
    assert any(note.startswith("Column 'Unnamed: 0' is called as an index is, and is an") for note in made.report.notes)
    told = imported(tmp_path / "3", "a.csv", text.encode(), columns={"Unnamed: 0": "number"})
    assert not any("Unnamed: 0" in note for note in told.report.notes)


def test_a_delimiter_behind_each_row_makes_no_column(tmp_path: Path) -> None:
    text = "a,label,\n" + "".join(f"{row % 5}.5,{row % 2},\n" for row in range(12))
    made = imported(tmp_path, "a.csv", text.encode())
    assert names(made) == ["a"]
    assert "A column without a name is empty, and was ignored." in made.report.notes


def test_parts_that_are_not_known_make_no_feature(tmp_path: Path) -> None:
    text = "a,label,split\n" + "".join(f"{row % 5}.5,{row % 2},{('train', 'dev')[row // 6]}\n" for row in range(12))
    with pytest.raises(InvalidData, match=r"'split' of a\.csv says the part of some rows, and has 'dev' in others"):
        imported(tmp_path / "1", "a.csv", text.encode())
    with pytest.raises(InvalidData, match=r"'split' .* and has nothing in 6 rows in others"):
        imported(tmp_path / "0", "a.csv", text.replace("dev", "").encode())
    made = imported(tmp_path / "2", "a.csv", text.encode(), columns={"split": "ignore"})
    assert names(made) == ["a"]
    assert list(made.report.parts) == ["train"]
    made = imported(tmp_path / "3", "a.csv", text.encode(), columns={"split": "categorical"})
    assert names(made) == ["a", "split=dev", "split=train"]
    # A split that has nothing to do with parts is a feature like others.
    made = imported(tmp_path / "4", "a.csv", text.replace("train", "left").replace("dev", "right").encode())
    assert names(made) == ["a", "split=left", "split=right"]


def test_neither_an_index_nor_an_empty_column_is_the_label(tmp_path: Path) -> None:
    table = pa.table({"a": [0.5, 1.5] * 6, "quality": ["u", "v"] * 6, "__index_level_0__": SHUFFLED})
    assert imported(tmp_path / "1", "a.parquet", as_parquet(table)).described["classes"] == ["u", "v"]
    text = "a;quality;;\n" + "".join(f"{row % 5}.5;{'uv'[row % 2]};;\n" for row in range(12))
    made = imported(tmp_path / "2", "a.csv", text.encode())
    assert (names(made), made.described["classes"]) == (["a"], ["u", "v"])


def test_floats_that_may_be_pictures_are_said_to_be_sequences(tmp_path: Path) -> None:
    pixels, targets = (CHANCE.integers(0, 256, (8, 4, 5)) / 255).astype(np.float32), np.arange(8) % 2
    note = "Examples are sequences of 4 steps of 5 features; say kind: image for pictures."
    made = imported(tmp_path / "1", "a.npz", as_npz(x=pixels, y=targets))
    assert note in made.report.notes
    told = imported(tmp_path / "2", "a.npz", as_npz(x=pixels, y=targets), kind="image")
    np.testing.assert_array_equal(told.array("train", "inputs"), np.rint(pixels * 255)[:, np.newaxis])
    for options in ({"kind": "image"}, {"kind": "sequence"}):
        assert note not in imported(tmp_path / "3", "a.npz", as_npz(x=pixels, y=targets), **options).report.notes
