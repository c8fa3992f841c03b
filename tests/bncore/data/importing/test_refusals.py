"""What is no data set is refused with what is wrong, where, and the cure; and nothing is left of it."""

import io
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bncore.data.dataset import InvalidData
from bncore.data.importing import Interrupted, bounds, import_file
from bncore.spec.importing import ImportSpec
from tests.bncore.data.importing.made import as_idx, as_image, as_npz, as_tar, as_zip, imported, picture_files
from tests.bncore.data.importing.test_formats import NUMBERS, PIXELS, as_parquet

ROWS = "a,b,label\n" + "".join(f"{row},{row * 2},{row % 2}\n" for row in range(8))
X, Y = np.arange(24.0).reshape(8, 3), np.arange(8) % 2


def objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{}, []], dtype=object), y=np.arange(2))
    return buffer.getvalue()


def linked(kind: bytes, name: str = "train/cat/link.png") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("train/cat/link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(as_zip({"train/cat/0.png": b"secret"}, zipfile.ZIP_STORED))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + at] |= 1
    return bytes(content)


def huge_png() -> bytes:
    """A PNG that says it has 10^9 pixels, in 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def fractional() -> bytes:
    return as_npz(x=X, y=Y + 0.5)


def one_of(values: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    changed = values.copy()
    changed[at] = value
    return changed


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "is empty"),
    "a pickle": (lambda: pickle.dumps({"x": 1}), "is a pickle.*numpy.savez"),
    "an array alone": (lambda: as_npz(x=X)[:0] + b"\x93NUMPY\x01\x00", "one array"),
    "objects in an npz": (objects, "array 'x'.*Python objects"),
    "a pickle of CIFAR": (lambda: as_tar({"data_batch_1": pickle.dumps([1])}), "entry 'data_batch_1'.*binary form"),
    "no end of a zip": (lambda: as_npz(x=X, y=Y)[:-30], "truncated"),
    "an npz without inputs": (lambda: as_npz(y=Y, extra=X), "no inputs.*'extra'"),
    "fewer targets": (lambda: as_npz(x=X, y=Y[:5]), "'x' 8, 'y' 5"),
    "fractions as classes": (fractional, "0.5.*task: regression"),
    "one hot": (lambda: as_npz(x=X, y=np.eye(8)), "argmax"),
    "NaN": (
        lambda: as_npz(x=one_of(X, (3, 1), np.nan), y=Y),
        "example 4 of train, feature '1', which is missing; say impute",
    ),
    "infinity": (
        lambda: as_npz(x=one_of(X, (0, 2), np.inf), y=Y),
        "example 1 of train, feature '2', which is infinite",
    ),
    "too large for single": (lambda: as_npz(x=one_of(X, (0, 2), 1e300), y=Y), "too large for single precision"),
    "one class": (lambda: as_npz(x=X, y=Y * 0), "of one class, '0'"),
    "a class alone": (lambda: as_npz(x=X, y=[0, 1, 1, 1, 1, 1, 1, 2]), "one example: 0, 2.*split needs two"),
    "a class without training": (lambda: as_npz(x=X, y=Y, x_test=X, y_test=Y + 1), "without a training example: 2"),
    "a length too long": (
        lambda: as_npz(x=X[:, :, None], y=Y, lengths=Y + 3),
        "example 2 of train has the length 4.*most 3",
    ),
    "a length of nothing": (lambda: as_npz(x=X[:, :, None], y=Y, lengths=Y), "example 1 of train has the length 0"),
    "pixels beyond bytes": (lambda: as_npz(x=np.full((8, 3, 4, 5), -1.0), y=Y), "pixels from -1 to -1"),
    "pixels between bytes": (lambda: as_npz(x=np.full((8, 3, 4, 5), 0.3), y=Y), "no whole number of 255ths"),
    "a way out": (lambda: as_zip({"train/../../a.png": b"x"}), "leads outside, 'train/../../a.png'"),
    "a way out of a tar": (lambda: as_tar({"train/../../a.png": b"x"}), "leads outside"),
    "an absolute name": (lambda: as_tar({"/etc/a.png": b"x"}), "absolute name, '/etc/a.png'"),
    "a drive": (lambda: as_zip({"C:\\a.png": b"x"}), "absolute name"),
    "a name twice": (lambda: as_tar({"a/./0.png": b"x", "a/0.png": b"x"}), "'a/0.png' twice"),
    "a symlink": (lambda: linked(tarfile.SYMTYPE), "link.png.*is a link"),
    "a hard link": (lambda: linked(tarfile.LNKTYPE), "link.png.*is a link"),
    "a device": (lambda: linked(tarfile.CHRTYPE), "link.png.*device"),
    "a symlink in a zip": (linked_zip, "link.png.*is a link"),
    "an encrypted entry": (encrypted, "encrypted.*without a password"),
    "10^9 pixels": (lambda: as_zip({"a/0.png": huge_png()}), "entry 'a/0.png'.*at most 50,000,000 are taken"),
    "a damaged image": (
        lambda: as_zip(picture_files() | {"train/cat/00.png": b"\x89PNG1"}),
        "'train/cat/00.png'.*damaged",
    ),
    "an empty image": (lambda: as_zip(picture_files() | {"train/cat/00.png": b""}), "'train/cat/00.png'.*is empty"),
    "two sizes": (
        lambda: as_zip(picture_files() | {"train/cat/9.png": as_image(np.zeros((7, 9), np.uint8))}),
        r"2 sizes: 12 of 4 x 5, but 'train/cat/9.png' has 7 x 9.*resize, for example \[4, 5\]",
    ),
    "16 bits": (lambda: as_zip({"a/0.png": as_image(np.zeros((2, 2), np.uint16))}), "8 bits a channel"),
    "other classes": (lambda: as_zip(picture_files() | {"test/cow/0.png": as_image(PIXELS[0])}), "train/ lacks.*cow"),
    "no class": (lambda: as_zip({"0.png": as_image(PIXELS[0]), "a/1.png": as_image(PIXELS[0])}), "'0.png'.*no folder"),
    "a program": (lambda: as_zip(picture_files() | {"train/cat/a.exe": b"MZ"}), "'train/cat/a.exe'.*no image"),
    "an empty archive": (lambda: as_zip({}), "no files"),
    "a truncated tar": (lambda: as_tar(picture_files(), "")[:6000], "truncated"),
    "a tar without its end": (lambda: as_tar(picture_files(), "")[: 12 * 1024], "truncated"),
    "a truncated gzip": (lambda: as_tar(picture_files())[:900], "damaged or truncated"),
    "labels without images": (
        lambda: as_zip({"train-labels-idx1-ubyte": as_idx(PIXELS[0, 0])}),
        "no images of the train",
    ),
    "a cut IDX": (
        lambda: as_zip({"train-labels": as_idx(np.uint8(NUMBERS)), "train-images": as_idx(PIXELS, packed=False)[:90]}),
        "'train-images'.*truncated",
    ),
    "a cut CIFAR": (lambda: as_tar({"data_batch_1.bin": bytes(3073 * 2 - 1)}), "no number of records of 3,073"),
    "the same name twice": (lambda: ROWS.replace("b", "a", 1).encode(), "same name: 'a'"),
    "a ragged row": (lambda: (ROWS + "1,2\n").encode(), "2 cells in row 10, and 3"),
    "Latin-1": (lambda: ROWS.encode() + b"1,2,\xe9\n", "not UTF-8 in line 10"),
    "UTF-16": (lambda: ROWS.encode("utf-16"), "UTF-16; save it as UTF-8"),
    "NUL": (lambda: ROWS.encode() + b"1,\0,1\n", "NUL byte in line 10"),
    "no label": (lambda: (ROWS + "1,2,\n").encode(), "no label in row 9"),
    "missing cells": (lambda: (ROWS + ",?,1\n").encode(), "2 features are missing.*example 9 of train, feature 'a'"),
    "fractions in a CSV": (lambda: (ROWS + "1,2,0.5\n").encode(), "0.5.*task: regression"),
    "one column": (lambda: b"a\n1\n2\n", "one column"),
    "many words": (
        lambda: ("w,label\n" + "".join(f"w{n},{n % 2}\n" for n in range(99))).encode(),
        "ignore.*categorical",
    ),
    "10^6 columns": (lambda: b",".join(b"%d" % n for n in range(10**6)) + b"\n", "columns; at most 16,384"),
    "a header alone": (lambda: b"a,b,label\n", "train part has no examples"),
    "a cut Parquet": (lambda: as_parquet(pa.table({"a": [1, 2], "y": [0, 1]}))[:-9], "damaged or truncated"),
    "many columns in Parquet": (
        lambda: as_parquet(pa.table({str(n): [1] for n in range(17_000)})),
        "17,000 columns; at most 16,384",
    ),
    "missing in Parquet": (
        lambda: as_parquet(pa.table({"a": [1, None], "y": [0, 1]})),
        "example 2 of train, feature 'a'",
    ),
    "dates": (lambda: as_parquet(pa.table({"a": pa.array([1, 2], pa.timestamp("s")), "y": [0, 1]})), "type timestamp"),
    "Excel": (lambda: as_zip({"[Content_Types].xml": b"<x/>", "xl/a.xml": b"<x/>"}), "Excel"),
    "a label that steers terminals": (lambda: (ROWS + "1,2,\x1b[2J\n").encode(), "cannot be shown"),
    "a column that does": (lambda: ROWS.replace("b", "\x1b[2J").encode(), "cannot be shown"),
    "a PDF": (lambda: b"%PDF-1.7\n", "a PDF"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_its_own_report(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(InvalidData, match=f"(?s){words}") as refusal:
        imported(tmp_path, "upload", make())
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


@pytest.mark.parametrize(
    ("limit", "value", "make", "words"),
    [
        (
            "FILE_BYTES",
            1000,
            lambda: as_zip({"a/0.png": as_image(PIXELS[0])} | {"b/1.png": bytes(2000)}),
            "at most|more than",
        ),
        ("FILE_BYTES", 900, lambda: as_npz(x=np.arange(10**5).reshape(-1, 5), y=np.arange(20000) % 2), "bytes"),
        ("ENTRIES", 10, lambda: as_tar(picture_files()), "more than 10 entries"),
        ("ENTRIES", 10, lambda: as_zip({f"{n}": b"" for n in range(60)}), "more than 10 entries"),
        ("EXAMPLES", 7, lambda: as_npz(x=X, y=Y), "8 examples; at most 7"),
        ("FEATURES", 2, lambda: as_npz(x=X, y=Y), "3 columns"),
        ("RATIO_FROM_BYTES", 10**5, lambda: as_zip({"a/0.png": bytes(10**6)}), "bomb"),
        ("RATIO_FROM_BYTES", 10**5, lambda: as_tar({"a/0.png": bytes(10**6)}), "bomb"),
        (
            "RATIO_FROM_BYTES",
            10**5,
            lambda: as_zip(
                {
                    "train-images": as_idx(np.zeros((100, 100, 100), np.uint8)),
                    "train-labels": as_idx(np.uint8(range(100))),
                },
                zipfile.ZIP_STORED,
            ),
            "bomb",
        ),
    ],
)
def test_limits_hold_before_anything_is_held_or_written(tmp_path: Path, monkeypatch, limit, value, make, words) -> None:
    content = make()
    monkeypatch.setattr(bounds, limit, value)
    with pytest.raises(InvalidData, match=words):
        imported(tmp_path, "upload", content)
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


LISTED = pa.table({"x": [[1.0, 2.0], [3.0]] * 3, "n": [2, 2] * 3, "y": list("ababab")})


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (ROWS.encode(), {"targets": "c"}, "no column 'c'; there are 'a', 'b', 'label'"),
        (ROWS.encode(), {"inputs": "label"}, "named as an input, and as something else"),
        (ROWS.encode(), {"resize": 8}, "for images"),
        (ROWS.encode(), {"kind": "sequence"}, "lists"),
        (ROWS.encode(), {"task": "tagging"}, "tagging"),
        (ROWS.encode(), {"part": "b"}, "'0'; parts are train, validation and test"),
        (ROWS.replace("1", "x").encode(), {"task": "regression"}, "texts, and a regression predicts numbers"),
        (as_npz(x=X, y=Y), {"columns": {"a": "ignore"}}, "read as npz, where columns mean nothing"),
        (as_npz(x=X, y=Y), {"inputs": "z"}, "no inputs of the train part; it has the arrays 'x', 'y'"),
        (as_npz(x=X, y=Y), {"kind": "image"}, "2 axes for images"),
        (as_zip(picture_files()), {"impute": 0.0}, "read as folders, where impute mean nothing"),
        (as_zip(picture_files()), {"task": "regression"}, "leave task out"),
        (as_parquet(LISTED), {"lengths": "n"}, "column 'n' of upload has 2 in row 2.*which is 1"),
        (as_parquet(LISTED), {"kind": "vector", "columns": {"n": "ignore"}}, "as many numbers in each row"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(tmp_path: Path, content, options, words) -> None:
    with pytest.raises(InvalidData, match=words):
        imported(tmp_path, "upload", content, **options)


def test_a_format_that_is_told_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="should be parquet, and is csv"):
        imported(tmp_path, "a", ROWS.encode(), format="parquet")


def test_an_import_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(as_zip(picture_files()))
    calls = iter(range(10**6))
    for last in (0, 5, 20, 40):
        calls = iter(range(10**6))
        with pytest.raises(Interrupted):
            import_file(path, ImportSpec(), tmp_path / "out", stop_asked=lambda c=calls, n=last: next(c) >= n)
        assert [left.name for left in tmp_path.iterdir()] == ["a.zip"]
