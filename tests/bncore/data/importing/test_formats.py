"""What is in a file is in the data set, number by number, whatever the format."""

import csv
import io
import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from bncore.data.dataset import InvalidData
from bncore.data.importing.parquet import parquet_table
from tests.bncore.data.importing.made import as_idx, as_image, as_npz, as_tar, as_zip, imported, picture_files, pictures

CHANCE = np.random.default_rng(7)
PIXELS = CHANCE.integers(0, 256, (12, 5, 4), dtype=np.uint8)
NUMBERS = np.tile(np.array([3, 10, 2]), 4)


def test_the_description_names_every_array_by_its_bytes(tmp_path: Path) -> None:
    made = imported(tmp_path, "a.npz", as_npz(x=PIXELS, y=NUMBERS))
    text = (made.folder / "dataset.json").read_bytes()
    assert made.report.sha256 == sha256(text).hexdigest()
    assert text == json.dumps(made.described, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert made.described["signal"] == {"kind": "image", "shape": [1, 5, 4], "lengths": False}
    part = made.described["parts"]["train"]
    assert part["class_counts"] == [4, 4, 4]
    assert part["lengths"] is None
    for array in (part["inputs"], part["targets"]):
        content = (made.folder / array["file"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (array["size"], array["sha256"])
        assert content[:8] == b"\x93NUMPY\x01\x00"
    files = {path.name for path in made.folder.iterdir()}
    assert files == {"dataset.json", "report.json", "contact.png", "train-inputs.npy", "train-targets.npy"}
    assert json.loads((made.folder / "report.json").read_bytes()) == made.report.model_dump(mode="json")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", ["hw", "hwc", "chw", "float"])
def test_images_of_an_npz(tmp_path: Path, order: str, axes: str) -> None:
    colours = CHANCE.integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
    wanted = PIXELS[:, np.newaxis] if axes == "hw" else colours.transpose(0, 3, 1, 2)
    stored = {"hw": PIXELS, "hwc": colours, "chw": wanted, "float": (colours / 255).astype(np.float32)}[axes]
    made = imported(tmp_path, "a.npz", as_npz(x_train=np.asarray(stored, order=order), y_train=NUMBERS))
    np.testing.assert_array_equal(made.array("train", "inputs"), wanted)
    # Classes are in the order of integers, not of texts.
    assert made.described["classes"] == ["2", "3", "10"]
    np.testing.assert_array_equal(made.array("train", "targets"), np.tile([1, 2, 0], 4))


def test_vectors_parts_and_names_that_are_told(tmp_path: Path) -> None:
    rows = {part: CHANCE.normal(size=(count, 3)) for part, count in (("train", 6), ("val", 4), ("test", 2))}
    words = {"train": np.array(list("abcabc")), "val": np.array(list("abca")), "test": np.array(list("cb"))}
    arrays = {f"{part}_rows": values for part, values in rows.items()}
    arrays |= {f"{part}_words": values for part, values in words.items()} | {"other": np.zeros(1)}
    made = imported(tmp_path, "a.npz", as_npz(**arrays), inputs="rows", targets="words")
    assert list(made.report.parts) == ["train", "validation", "test"]
    for stored, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        np.testing.assert_array_equal(made.array(part, "inputs"), rows[stored].astype(np.float32))
        assert made.names(part) == words[stored].tolist()


def test_sequences_with_lengths_and_a_class_a_step(tmp_path: Path) -> None:
    steps, lengths = CHANCE.normal(size=(4, 5, 2)).astype(np.float32), np.array([5, 1, 3, 2])
    tags = np.arange(20).reshape(4, 5) % 3 + 1
    made = imported(tmp_path, "a.npz", as_npz(inputs=steps, targets=tags, lengths=lengths))
    assert (made.described["task"], made.described["signal"]["lengths"]) == ("tagging", True)
    inside = np.arange(5) < lengths[:, np.newaxis]
    np.testing.assert_array_equal(made.array("train", "inputs"), np.where(inside[:, :, np.newaxis], steps, 0))
    np.testing.assert_array_equal(made.array("train", "targets"), np.where(inside, tags - 1, -1))
    np.testing.assert_array_equal(made.array("train", "lengths"), lengths)
    # Two of them are imported alike from Parquet, where they have no padding.
    table = pa.table(
        {
            "steps": [row[:length].tolist() for row, length in zip(steps, lengths, strict=True)],
            "label": [row[:length].tolist() for row, length in zip(tags, lengths, strict=True)],
        }
    )
    assert imported(tmp_path / "2", "a.parquet", as_parquet(table)).report.sha256 == made.report.sha256


def test_a_regression_of_several_numbers(tmp_path: Path) -> None:
    text = "a;b;speed;height\n1;2;0,5\n".replace("0,5", "0.5;-3") + "3;4;1e3;7\n5;6;.25;8\n"
    made = imported(tmp_path, "a.csv", text.encode(), task="regression", targets=["speed", "height"])
    np.testing.assert_array_equal(made.array("train", "targets"), np.float32([[0.5, -3], [1000, 7], [0.25, 8]]))
    np.testing.assert_array_equal(made.array("train", "inputs"), np.float32([[1, 2], [3, 4], [5, 6]]))
    assert (made.described["classes"], made.described["outputs"]) == (None, 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_csv_as_the_csv_module_writes_it(tmp_path: Path, delimiter: str, header: bool) -> None:
    rows = [[repr(float(number)) for number in CHANCE.normal(size=3)] + [word] for word in ("a b", 'q"q', "x,;| y") * 3]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows(([["one", "two", "three", "kind"]] if header else []) + rows)
    made = imported(tmp_path, "a.csv", b"\xef\xbb\xbf" + text.getvalue().encode())
    np.testing.assert_array_equal(made.array("train", "inputs"), np.array([row[:3] for row in rows], dtype=np.float32))
    assert made.names("train") == [row[3] for row in rows]
    assert [feature.name for feature in made.report.features] == (
        ["one", "two", "three"] if header else ["0", "1", "2"]
    )


def test_csv_with_words_parts_and_row_numbers(tmp_path: Path) -> None:
    text = ",colour,size,label,split\n" + "".join(
        f"{row},{('red', 'blue')[row % 2]},{row * row},{row % 3},{('train', 'train', 'train', 'test')[row % 4]}\n"
        for row in range(12)
    )
    made = imported(tmp_path, "a.csv", text.encode())
    assert [feature.name for feature in made.report.features] == ["colour=blue", "colour=red", "size"]
    wanted = np.float32([[row % 2, 1 - row % 2, row * row] for row in range(12)])
    test = np.arange(12) % 4 == 3
    np.testing.assert_array_equal(made.array("train", "inputs"), wanted[~test])
    np.testing.assert_array_equal(made.array("test", "inputs"), wanted[test])
    assert made.names("test") == ["0", "1", "2"]
    # The same table in two files of an archive, in any order, is the same data set.
    lines = [line.split(",") for line in text.splitlines()]
    chosen = {
        "train.csv": [row for row in lines if row[4] != "test"],
        "x/TEST.csv": [row for row in lines if row[4] != "train"],
    }
    files = {name: "\n".join(",".join(row[1:4]) for row in rows).encode() for name, rows in chosen.items()}
    assert imported(tmp_path / "2", "a.zip", as_zip(files)).report.sha256 == made.report.sha256


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=3)
    return buffer.getvalue()


def test_parquet_of_every_type_of_number(tmp_path: Path) -> None:
    columns = {"i": [1, 2, 3, 4], "f": [0.5, 1.5, 2.5, 3.5], "b": [True, False, True, True]}
    table = pa.table({**columns, "y": pa.array(["u", "v", "u", "v"]).dictionary_encode()})
    made = imported(tmp_path, "a.parquet", as_parquet(table))
    np.testing.assert_array_equal(made.array("train", "inputs"), np.float32(list(zip(*columns.values(), strict=True))))
    assert made.names("train") == ["u", "v", "u", "v"]


def test_images_in_parquet(tmp_path: Path) -> None:
    images = [as_image(pixels) for pixels in PIXELS]
    table = pa.table({"image": [{"bytes": image, "path": None} for image in images], "label": NUMBERS})
    made = imported(tmp_path, "a.parquet", as_parquet(table))
    np.testing.assert_array_equal(made.array("train", "inputs"), PIXELS[:, np.newaxis])


@pytest.mark.parametrize("pack", [as_zip, as_tar])
def test_folders_in_any_order(tmp_path: Path, pack) -> None:
    files = picture_files() | {"__MACOSX/train/cat/._00.png": b"x", "train/cat/.DS_Store": b"x", "README.txt": b"hello"}
    made = imported(tmp_path, "a", pack(files))
    assert made.described["classes"] == ["cat", "dog"]
    assert any("2 entries" in note for note in made.report.notes)
    shown = pictures()
    for part in ("train", "test"):
        wanted = np.stack([shown[name] for name in sorted(shown) if name.startswith(part)]).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(made.array(part, "inputs"), wanted)
        assert made.names(part) == ["cat"] * 3 + ["dog"] * 3
    turned = {f"data/{name}": files[name] for name in sorted(files, reverse=True)}
    turned = {name.replace("train/", "TRAIN/"): content for name, content in turned.items()}
    assert imported(tmp_path / "2", "b", pack(turned)).report.sha256 == made.report.sha256
    with Image.open(made.folder / "contact.png") as sheet:
        assert sheet.size[1] > 2 * 64


def test_images_are_resized_and_made_gray_as_by_pillow(tmp_path: Path) -> None:
    small, large = (
        pictures(),
        {f"train/cat/large{n}.png": CHANCE.integers(0, 256, (9, 7, 3), np.uint8) for n in range(2)},
    )
    files = {name: as_image(pixels) for name, pixels in (small | large).items()}
    made = imported(tmp_path, "a.zip", as_zip(files), resize=[3, 2], grayscale=True)
    names = sorted(name for name in files if name.startswith("train"))
    wanted = [
        np.asarray(Image.open(io.BytesIO(files[name])).convert("L").resize((2, 3), Image.Resampling.BILINEAR))
        for name in names
    ]
    np.testing.assert_array_equal(made.array("train", "inputs"), np.stack(wanted)[:, np.newaxis])


@pytest.mark.parametrize("pack", [as_zip, as_tar])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_in_archives(tmp_path: Path, pack, packed: bool) -> None:
    files = {
        "train-images-idx3-ubyte": as_idx(PIXELS, packed),
        "t10k-labels-idx1-ubyte": as_idx(NUMBERS[:6].astype(np.uint8), packed),
        "train-labels-idx1-ubyte": as_idx(NUMBERS.astype(np.int32), packed),
        "t10k-images-idx3-ubyte": as_idx(PIXELS[::2], packed),
    }
    made = imported(tmp_path, "a", pack(files))
    np.testing.assert_array_equal(made.array("train", "inputs"), PIXELS[:, np.newaxis])
    np.testing.assert_array_equal(made.array("test", "inputs"), PIXELS[::2, np.newaxis])
    assert [int(name) for name in made.names("train")] == NUMBERS.tolist()
    assert (made.report.format, made.report.parts["test"].duplicates_of_train) == ("idx", 6)


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_binary(tmp_path: Path, hundred: bool) -> None:
    images = CHANCE.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(12) % 3
    before = np.zeros((12, 1), np.uint8) if hundred else np.zeros((12, 0), np.uint8)
    records = np.concatenate([before, labels[:, np.newaxis].astype(np.uint8), images.reshape(12, -1)], axis=1)
    names = b"plane\nbird\nfrog\n"
    files = (
        {"c/train.bin": records[:9].tobytes(), "c/test.bin": records[9:].tobytes(), "c/fine_label_names.txt": names}
        if hundred
        else {
            "c/data_batch_10.bin": records[6:9].tobytes(),
            "c/data_batch_2.bin": records[:6].tobytes(),
            "c/test_batch.bin": records[9:].tobytes(),
            "c/batches.meta.txt": names,
        }
    )
    made = imported(tmp_path, "cifar.tar.gz", as_tar(files))
    assert made.described["classes"] == ["bird", "frog", "plane"]
    np.testing.assert_array_equal(made.array("train", "inputs"), images[:9])
    np.testing.assert_array_equal(made.array("test", "inputs"), images[9:])
    assert made.names("train") == [["plane", "bird", "frog"][label] for label in labels[:9]]


def test_classes_that_single_numbers_cannot_tell_apart(tmp_path: Path) -> None:
    large = [2**53, 2**53 + 1] * 3
    text = "a,label\n" + "".join(f"{row}.5,{label}\n" for row, label in enumerate(large))
    wanted = [str(2**53), str(2**53 + 1)]
    assert imported(tmp_path / "1", "a.csv", text.encode()).described["classes"] == wanted
    table = pa.table({"a": [0.5] * 6, "label": large})
    assert imported(tmp_path / "2", "a.parquet", as_parquet(table)).described["classes"] == wanted
    assert (
        imported(tmp_path / "3", "a.npz", as_npz(x=np.ones((6, 1)), y=np.array(large))).described["classes"] == wanted
    )


def test_what_single_precision_rounds_is_said(tmp_path: Path) -> None:
    text = "id,a,label\n" + "".join(f"{2**24 + row},{row}.1,{row % 2}\n" for row in range(6))
    notes = imported(tmp_path, "a.csv", text.encode()).report.notes
    assert [note for note in notes if "2^24" in note] == [
        "Column 'id' has whole numbers beyond 2^24, which are rounded to single precision."
    ]


def test_lengths_of_padded_lists_are_told_by_a_column(tmp_path: Path) -> None:
    steps, lengths = CHANCE.normal(size=(6, 4, 2)).astype(np.float32), np.array([4, 1, 3, 2, 4, 2])
    tags = np.where(np.arange(4) < lengths[:, np.newaxis], np.arange(24).reshape(6, 4) % 2, 9)
    table = pa.table({"steps": steps.tolist(), "n": lengths, "tags": tags.tolist()})
    made = imported(tmp_path, "a.parquet", as_parquet(table), lengths="n")
    assert (made.described["task"], made.described["classes"]) == ("tagging", ["0", "1"])
    inside = np.arange(4) < lengths[:, np.newaxis]
    np.testing.assert_array_equal(made.array("train", "inputs"), np.where(inside[..., np.newaxis], steps, 0))
    np.testing.assert_array_equal(made.array("train", "targets"), np.where(inside, tags, -1))
    np.testing.assert_array_equal(made.array("train", "lengths"), lengths)


@pytest.mark.parametrize("how", ["mean", "median", 7.5])
def test_missing_features_are_imputed_from_the_training_part(tmp_path: Path, how) -> None:
    train, test = CHANCE.normal(size=(40, 3)), CHANCE.normal(size=(10, 3))
    train[::7, 1], train[3, 2], test[:, 1], test[0, 0] = np.nan, np.inf, np.nan, -np.inf
    arrays = {"x_train": train, "y_train": np.arange(40) % 2, "x_test": test, "y_test": np.arange(10) % 2}
    made = imported(tmp_path, "a.npz", as_npz(**arrays), impute=how)
    single = np.where(np.isfinite(train), train, np.nan).astype(np.float32).astype(np.float64)
    values = {"mean": np.nanmean(single, axis=0), "median": np.nanmedian(single, axis=0)}.get(how, np.full(3, 7.5))
    for part, rows in (("train", train), ("test", test)):
        wanted = np.where(np.isfinite(rows), rows, values).astype(np.float32)
        np.testing.assert_allclose(made.array(part, "inputs"), wanted, rtol=1e-6)
    filled = made.array("train", "inputs").astype(np.float64)
    report = made.report
    assert [feature.missing for feature in report.features] == [1, 16, 1]
    assert report.missing_values == 18
    np.testing.assert_allclose([feature.mean for feature in report.features], filled.mean(axis=0))
    np.testing.assert_allclose([feature.sd for feature in report.features], filled.std(axis=0))


def test_the_report_counts_duplicates_constants_and_moments(tmp_path: Path) -> None:
    images = CHANCE.integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)
    images[:, 2] = 9
    images[5], images[6] = images[1], images[1]
    arrays = {
        "x": images,
        "y": np.arange(20) % 2,
        "x_test": images[[1, 1, 7, 2]] + np.uint8([[[[0]]], [[[0]]], [[[1]]], [[[0]]]]),
    }
    made = imported(tmp_path, "a.npz", as_npz(**arrays, y_test=np.array([0, 1, 0, 1])))
    report = made.report
    assert (report.parts["train"].duplicates, report.parts["test"].duplicates) == (2, 1)
    assert report.parts["test"].duplicates_of_train == 3
    assert (report.constant_features, [feature.constant for feature in report.features]) == (1, [False, False, True])
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    np.testing.assert_allclose([feature.mean for feature in report.features], pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose([feature.sd for feature in report.features], pixels.std(axis=1), atol=1e-12)
    text = report.text()
    assert "3 of 4 test examples have the inputs of a training example" in text
    assert report.sha256 in text


def test_a_long_row_far_behind_costs_no_row_and_one_that_is_too_long_is_refused(tmp_path: Path) -> None:
    short = [f"{row / 8},{'uv'[row % 2]},{'x' * 40}\n" for row in range(30_000)]
    rows = [*short[:20_000], f"7.5,u,{'y' * 2**20}\n", *short[20_000:]]
    text = "a,label,words\n" + "".join(rows)
    made = imported(tmp_path / "1", "a.csv", text.encode(), columns={"words": "ignore"})
    wanted = [row / 8 for row in range(30_000)]
    wanted.insert(20_000, 7.5)
    np.testing.assert_array_equal(made.array("train", "inputs")[:, 0], wanted)
    longer = text.replace("y" * 2**20, "y" * (9 * 2**20))
    with pytest.raises(InvalidData, match="a row of more than 4,194,304 bytes; is there a quote without an end"):
        imported(tmp_path / "2", "a.csv", longer.encode(), columns={"words": "ignore"})


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_a_parquet_of_one_group_of_rows_is_not_held(tmp_path: Path) -> None:
    numbers = np.random.default_rng(2).normal(size=3_000_000).astype(np.float32)
    parquet.write_table(pa.table({"a": numbers, "b": numbers, "label": numbers > 0}), tmp_path / "a.parquet")
    pool = pa.default_memory_pool()
    held = []
    for batch in parquet_table(tmp_path / "a.parquet", "a", lambda: held.append(pool.bytes_allocated())).batches():
        assert batch.num_rows <= 65_536
    assert max(held) - held[0] < numbers.nbytes
