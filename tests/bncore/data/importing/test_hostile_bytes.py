"""Whatever is done to the bytes of a file, it is a data set or `InvalidData`: no other error, and nothing left."""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bncore.data.dataset import InvalidData
from bncore.data.importing import import_file
from bncore.spec.importing import ImportSpec
from tests.bncore.data.importing.made import as_idx, as_image, as_npz, as_tar, as_zip, picture_files
from tests.bncore.data.importing.test_formats import NUMBERS, PIXELS, as_parquet

ROWS = "a,b c,label\n" + "".join(f'{row},"{row / 7}",{"uvw"[row % 3]}\n' for row in range(12))
LISTS = {"x": [[[1.0, 2.0]] * (row % 3 + 1) for row in range(8)], "y": list("abababab")}


@functools.cache
def whole_files() -> dict[str, bytes]:
    idx = {"train-images": as_idx(PIXELS), "train-labels": as_idx(np.uint8(NUMBERS))}
    return {
        "npz": as_npz(x=PIXELS, y=NUMBERS),
        "lengths": as_npz(x=np.ones((8, 3, 2)), y=np.arange(8) % 2, lengths=np.arange(8) % 3 + 1),
        "csv": ROWS.encode(),
        "parquet": as_parquet(pa.table({"a": list(range(8)), "b": [0.5] * 8, "y": list("abababab")})),
        "lists": as_parquet(pa.table(LISTS)),
        "zip": as_zip(picture_files()),
        "jpeg": as_tar({name[:-3] + "jpg": as_image(PIXELS[0], "JPEG") for name in picture_files()}, ""),
        "tar.gz": as_tar(picture_files()),
        "tar.xz": as_tar(picture_files(), "xz"),
        "tar": as_tar(picture_files(), ""),
        "idx": as_zip(idx, 0),
        "cifar": as_tar({"data_batch_1.bin": bytes([0] + [1] * 3072 + [1] * 3073) * 3, "batches.meta.txt": b"a\nb\n"}),
    }


ACTIONS: dict[str, Callable[[bytearray, int, bytes], None]] = {
    "cut": lambda content, at, _: content.__delitem__(slice(at, None)),
    "flip": lambda content, at, other: content.__setitem__(
        slice(at, at + 1), bytes(b ^ other[0] for b in content[at : at + 1])
    ),
    "set": lambda content, at, other: content.__setitem__(slice(at, at + len(other)), other),
    "remove": lambda content, at, other: content.__delitem__(slice(at, at + 8 * len(other))),
    "insert": lambda content, at, other: content.__setitem__(slice(at, at), other),
    "repeat": lambda content, at, _: content.__setitem__(slice(at, at), content[at : at + 100]),
}
OTHERS = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"9999"]) | st.binary(
    min_size=1, max_size=8
)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    content = bytearray(whole_files()[name])
    for _ in range(draw(st.integers(1, 4))):
        # Indexes stand at the end of a file, or at its beginning.
        end = max(0, len(content) - 1)
        at = draw(st.integers(0, end) | st.integers(0, min(end, 200)) | st.integers(max(0, end - 200), end))
        ACTIONS[draw(st.sampled_from(sorted(ACTIONS)))](content, at, draw(OTHERS))
    return bytes(content)


@pytest.mark.parametrize("name", sorted(whole_files()))
def test_damaged_bytes_are_a_data_set_or_a_refusal(name: str) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged(name))
    def check(content: bytes) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            (folder / "upload").write_bytes(content)
            try:
                report = import_file(folder / "upload", ImportSpec(), folder / "out")
            except InvalidData:
                assert not (folder / "out").exists()
            else:
                assert report.parts["train"].examples > 0
        finally:
            shutil.rmtree(folder)

    check()
