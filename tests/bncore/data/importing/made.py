"""Small files of every format, made by other libraries than those that read them, and what was put into them."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bncore.data.importing import Report, import_file
from bncore.spec.importing import load_import

Files = Mapping[str, bytes]


class Imported:
    """A data set as it lies there after an import, read by numpy and json alone."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder = folder
        self.report = report
        self.described: dict[str, Any] = json.loads((folder / "dataset.json").read_bytes())

    def array(self, part: str, name: str) -> np.ndarray:
        return np.load(self.folder / self.described["parts"][part][name]["file"], allow_pickle=False)

    def names(self, part: str) -> list[str]:
        return [self.described["classes"][number] for number in self.array(part, "targets")]


def imported(folder: Path, name: str, content: bytes, **options: Any) -> Imported:
    """Import `content` as a file called `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    out = folder / f"out-{len(list(folder.iterdir()))}"
    return Imported(out, import_file(path, load_import(options), out))


def as_zip(files: Files, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return buffer.getvalue()


def as_tar(files: Files, packing: str = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{packing}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def as_npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def as_image(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def as_idx(array: np.ndarray, packed: bool = True) -> bytes:
    kinds = {"uint8": 8, "int32": 12}
    head = struct.pack(">BBBB", 0, 0, kinds[array.dtype.name], array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    return gzip.compress(content, mtime=0) if packed else content


def pictures(seed: int = 0, classes: tuple[str, ...] = ("cat", "dog"), count: int = 3) -> dict[str, np.ndarray]:
    """Images of 4 x 5 pixels by their names in folders, of train and test."""
    chance = np.random.default_rng(seed)
    return {
        f"{part}/{name}/{number:02}.png": chance.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        for part in ("train", "test")
        for name in classes
        for number in range(count)
    }


def picture_files(**options: Any) -> dict[str, bytes]:
    return {name: as_image(pixels) for name, pixels in pictures(**options).items()}
