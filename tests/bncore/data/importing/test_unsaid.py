"""Nothing that changes a number, or what it is for, is done unsaid."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bncore.data.dataset import InvalidData
from tests.bncore.data.importing.made import as_idx, as_npz, as_zip, imported, picture_files
from tests.bncore.data.importing.test_formats import as_parquet

DEEP = np.random.default_rng(3).integers(0, 2**16, (4, 5, 3))
HALF = np.arange(6) % 2
BIG = [2**53 + 1, 2**53 + 3, 2**62, 3, 4, 5]
"""Double precision has none of the first two."""


def png_of_16_bits() -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    head = struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def ppm_of_16_bits() -> bytes:
    return b"P6\n5 4\n65535\n" + DEEP.astype(">u2").tobytes()


def plain_ppm_of_16_bits() -> bytes:
    return b"P3\n5 4\n65535\n" + " ".join(map(str, DEEP.ravel())).encode()


def tiff_of_16_bits() -> bytes:
    pixels = DEEP.astype("<u2").tobytes()
    # Width, height, bits of three channels (behind the tags), no packing, RGB, where, channels, rows, bytes.
    tags = [(256, 5), (257, 4), (258, 122), (259, 1), (262, 2), (273, 128), (277, 3), (278, 4), (279, len(pixels))]
    listed = b"".join(struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + bytes(4)
    return head.ljust(122, b"\0") + struct.pack("<3H", 16, 16, 16) + pixels


@pytest.mark.parametrize("make", [png_of_16_bits, ppm_of_16_bits, plain_ppm_of_16_bits, tiff_of_16_bits])
def test_coloured_images_of_16_bits_are_refused_as_gray_ones_are(tmp_path: Path, make: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidData, match=r"train/cat/00.png.* has more than 8 bits a channel; save it with 8"):
        imported(tmp_path, "a.zip", as_zip({**picture_files(), "train/cat/00.png": make()}))


def test_portable_images_of_fewer_bits_are_read(tmp_path: Path) -> None:
    few = DEEP // 2**12
    made = imported(
        tmp_path,
        "a.zip",
        as_zip({**picture_files(), "train/cat/00.png": b"P6\n5 4\n15\n" + few.astype("u1").tobytes()}),
    )
    np.testing.assert_array_equal(made.array("train", "inputs")[0], few.transpose(2, 0, 1) * 17)


def test_truth_values_are_classes_in_parquet_as_in_an_npz(tmp_path: Path) -> None:
    table = pa.table({"a": range(6), "label": HALF.astype(bool)})
    made = imported(tmp_path, "a.parquet", as_parquet(table))
    assert made.described["classes"] == ["false", "true"]
    np.testing.assert_array_equal(made.array("train", "targets"), HALF)
    with pytest.raises(InvalidData, match="no label in row 2"):
        imported(
            tmp_path / "2", "a.parquet", as_parquet(pa.table({"a": range(3), "label": pa.array([True, None, False])}))
        )


def test_signed_bytes_below_0_are_no_pixels(tmp_path: Path) -> None:
    signed = np.arange(-3, 93, dtype=np.int8).reshape(6, 4, 4)

    def files(images: np.ndarray) -> dict[str, bytes]:
        content = struct.pack(">BBBB3I", 0, 0, 9, 3, *images.shape) + images.tobytes()
        return {"train-images": content, "train-labels": as_idx(HALF.astype(np.uint8))}

    with pytest.raises(InvalidData, match=r"train-images.* has pixels below 0"):
        imported(tmp_path, "a.zip", as_zip(files(signed)))
    made = imported(tmp_path / "2", "a.zip", as_zip(files(signed + np.int8(3))))
    np.testing.assert_array_equal(made.array("train", "inputs")[:, 0], signed + 3)


@pytest.mark.parametrize(
    ("name", "content", "options", "what"),
    [
        ("a.npz", as_npz(x=np.array([BIG]).T, y=HALF), {}, "Array 'x'"),
        ("a.npz", as_npz(x=np.array([BIG]).T + 0.0, y=HALF), {}, "Array 'x'"),
        ("a.npz", as_npz(x=np.ones((6, 1)), y=np.array(BIG)), {"task": "regression"}, "Array 'y'"),
        ("a.parquet", as_parquet(pa.table({"n": BIG, "y": HALF})), {}, "Column 'n'"),
        ("a.parquet", as_parquet(pa.table({"n": [[one, 1] for one in BIG], "y": HALF})), {}, "Column 'n'"),
        ("a.parquet", as_parquet(pa.table({"n": [[1], *([one, 1] for one in BIG[1:])], "y": HALF})), {}, "Column 'n'"),
        ("a.parquet", as_parquet(pa.table({"n": HALF, "y": BIG})), {"task": "regression"}, "Column 'y'"),
        (
            "a.csv",
            ("n,y\n" + "".join(f"{one},{y}\n" for one, y in zip(BIG, HALF, strict=True))).encode(),
            {},
            "Column 'n'",
        ),
    ],
)
def test_whole_numbers_are_said_to_be_rounded(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], what: str
) -> None:
    notes = imported(tmp_path, name, content, **options).report.notes
    assert f"{what} has whole numbers beyond 2^24, which are rounded to single precision." in notes


def test_whole_numbers_that_stay_what_they_are_are_not(tmp_path: Path) -> None:
    exact = np.array([[2**24, 2**30, 3 * 2**40, -(2**24), 0, 1]]).T
    assert not [note for note in imported(tmp_path, "a.npz", as_npz(x=exact, y=HALF)).report.notes if "2^24" in note]


def test_both_zeros_are_one_number_to_duplicates(tmp_path: Path) -> None:
    train, test = np.array([[0.0], [-0.0], [1.0], [2.0]]), np.array([[-0.0], [3.0]])
    content = as_npz(x_train=train, y_train=HALF[:4], x_test=test, y_test=HALF[:2])
    parts = imported(tmp_path, "a.npz", content).report.parts
    assert (parts["train"].duplicates, parts["test"].duplicates_of_train) == (1, 1)


def test_a_part_of_dark_images_has_the_scale_of_the_others(tmp_path: Path) -> None:
    bright, dark = np.arange(96).reshape(6, 4, 4), np.arange(32).reshape(2, 4, 4) % 2
    content = as_npz(x_train=bright, y_train=HALF, x_test=dark, y_test=HALF[:2])
    made = imported(tmp_path, "a.npz", content, kind="image")
    np.testing.assert_array_equal(made.array("train", "inputs")[:, 0], bright)
    np.testing.assert_array_equal(made.array("test", "inputs")[:, 0], dark)
