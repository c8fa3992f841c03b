"""Data sets in canonical form: `dataset.json` and an array a file, checked against the SHA-256 that a spec names.

Invariant: nothing is trained on but what the spec says, to the byte. Each array is read once from end to end for that.
"""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from bncore.data.dataset import DataSet, InvalidData
from bncore.data.reading import Reading
from bncore.data.stored import FileRows, StoredPart
from bncore.spec.data import DatasetSpec, Manifest, ManifestInvalid
from bncore.spec.data.manifest import ArraySpec, PartSpec, read_manifest

_TYPES = {"uint8": torch.uint8, "float32": torch.float32, "int64": torch.int64, "int32": torch.int32}


def load_canonical(spec: DatasetSpec, folder: Path | None) -> DataSet:
    """The data set in `folder`/<sha256>, its parts as they are stored, read as they are asked for.

    Raises `InvalidData` where there is none, where a file is not the one that is named, or is damaged.
    """
    if folder is None:
        raise InvalidData("the data set lies in no folder: give one that holds it under its SHA-256")
    assert spec.sha256 is not None
    path = folder / spec.sha256
    manifest = _manifest(path, spec.sha256)
    _same(manifest, spec)
    parts = {name: _part(path, part) for name, part in manifest.parts.named().items()}
    # Drawn from the training part where there is none.
    test = parts.get("test", parts["train"])
    names = None if manifest.classes is None else tuple(manifest.classes)
    return DataSet(parts["train"], test, manifest.outputs, parts.get("validation"), class_names=names)


def _manifest(path: Path, sha256: str) -> Manifest:
    try:
        text = (path / "dataset.json").read_bytes()
    except OSError as error:
        raise InvalidData(f"the data set {sha256} is not here: {error.strerror}") from error
    if hashlib.sha256(text).hexdigest() != sha256:
        raise InvalidData(f"dataset.json is not that of the data set {sha256}")
    try:
        return read_manifest(json.loads(text))
    except (ValueError, ManifestInvalid) as error:
        raise InvalidData(str(error)) from error


def _same(manifest: Manifest, spec: DatasetSpec) -> None:
    """A spec completed by hand may say of the content what is not so."""
    assert spec.examples is not None
    parts = manifest.parts.named()
    sizes = {name: parts[name].examples if name in parts else None for name in ("train", "validation", "test")}
    said = {"signal": spec.signal, "task": spec.task, "outputs": spec.outputs, "examples": spec.examples.model_dump()}
    found = {"signal": manifest.signal, "task": manifest.task, "outputs": manifest.outputs, "examples": sizes}
    for name, value in found.items():
        if said[name] != value:
            raise InvalidData(f"the spec says another {name} than the data set has")
    if spec.class_counts_said is not None and spec.class_counts_said != manifest.parts.train.class_counts:
        raise InvalidData("the spec says other class_counts than the data set has")


def _part(path: Path, part: PartSpec) -> StoredPart:
    rows = {name: _array(path / array.file, array) for name, array in part.arrays().items()}
    return StoredPart(rows, torch.arange(part.examples), Reading())


def _array(path: Path, array: ArraySpec) -> FileRows:
    """The array of a file whose every byte is the one that was named."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size != array.size:
                raise InvalidData(f"{path.name} is not the file that dataset.json names: its size is another one")
            if hashlib.file_digest(file, "sha256").hexdigest() != array.sha256:
                raise InvalidData(f"{path.name} is not the file that dataset.json names: its SHA-256 is another one")
            file.seek(0)
            offset = _header(file, path.name, array)
    except OSError as error:
        raise InvalidData(f"{path.name} cannot be read: {error.strerror}") from error
    return FileRows(path, _TYPES[array.dtype], array.shape, offset)


def _header(file: BinaryIO, name: str, array: ArraySpec) -> int:
    """Bytes before the numbers. The header is a Python literal, and is read as no more than that."""
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise InvalidData(f"{name} is of the .npy format {version[0]}.{version[1]}, and 1.0 is read")
        shape, is_transposed, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise InvalidData(f"{name} is no .npy file: {error}") from error
    wanted = np.dtype(array.dtype).newbyteorder("<")
    if is_transposed or (dtype, shape) != (wanted, array.shape):
        raise InvalidData(f"{name} holds another array than dataset.json names, or not in C order")
    return file.tell()
