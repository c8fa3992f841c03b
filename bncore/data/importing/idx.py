"""MNIST's IDX files: images and labels of each part in an archive, each packed by gzip or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import numpy as np

from bncore.data.dataset import InvalidData
from bncore.data.importing.archive import Archive, Entry, entry_words
from bncore.data.importing.arrays import Array
from bncore.data.importing.draft import PARTS, Draft
from bncore.data.importing.imaging import as_images, begin_images, cut
from bncore.data.importing.streams import as_binary, is_packed, read_exactly, reading, unpacked
from bncore.spec.importing import ImportSpec

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PARTS = {"train": "train", "t10k": "test", "test": "test", "valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


def is_idx(head: bytes) -> bool:
    """Whether these first bytes are those of an IDX file, packed or not."""
    if is_packed(head):
        try:
            # No more of it is unpacked than these few bytes hold.
            head = unpacked(BytesIO(head), head, "", len(head)).read(4)
        except InvalidData:
            return False
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _DTYPES and 1 <= head[3] <= 4


def read_idx(archive: Archive, spec: ImportSpec, draft: Draft) -> None:
    """Fill `draft` with the images and labels of an archive. Raises `InvalidData` where they are no data set."""
    draft.format = "idx"
    headers: dict[str, _Header] = {}
    entries = [entry for entry in archive.entries if is_idx(entry.head)]
    for entry, stream in archive.walk({entry.name for entry in entries}):
        with _content(archive, entry, stream) as content:
            headers[entry.name] = _read_header(content, entry_words(archive.name, entry.name))
    pairs = _pairs(archive.name, headers)
    images = {part: headers[pair[0]] for part, pair in pairs.items()}
    _begin(draft, spec, archive.name, images)
    for part, header in images.items():
        draft.part(part, header.shape[0])
    roles = {name: (part, place == 0) for part, pair in pairs.items() for place, name in enumerate(pair)}
    for entry, stream in archive.walk(set(roles)):
        part, is_images = roles[entry.name]
        with _content(archive, entry, stream) as content:
            _store(content, headers[entry.name], entry_words(archive.name, entry.name), draft, spec, part, is_images)


def _pairs(archive: str, headers: dict[str, _Header]) -> dict[str, tuple[str, str]]:
    """The names of images and labels of each part."""
    found: dict[str, dict[bool, str]] = {}
    for name, header in headers.items():
        file = name.rpartition("/")[2].lower()
        part = next((part for word, part in _PARTS.items() if word in file), "train")
        is_images = len(header.shape) > 1
        if is_images in found.setdefault(part, {}):
            what = "images" if is_images else "labels"
            raise InvalidData(f"{archive} has two files of {what} for the {part} part; keep one")
        found[part][is_images] = name
    for part, files in found.items():
        if len(files) < 2:
            lacking = "labels" if True in files else "images"
            raise InvalidData(f"{archive} has no {lacking} of the {part} part; pack images and labels of each part")
        counts = [headers[name].shape[0] for name in files.values()]
        if counts[0] != counts[1]:
            raise InvalidData(f"{archive}: images and labels of the {part} part are {counts[0]:,} and {counts[1]:,}")
    if "train" not in found:
        raise InvalidData(f"{archive} has no training part; names of its files begin with train")
    return {part: (found[part][True], found[part][False]) for part in PARTS if part in found}


def _begin(draft: Draft, spec: ImportSpec, archive: str, images: dict[str, _Header]) -> None:
    shapes = {header.shape[1:] for header in images.values()}
    train = images["train"]
    if len(shapes) > 1:
        raise InvalidData(
            f"{archive} has images of different shapes: {', '.join(str(list(s)) for s in sorted(shapes))}"
        )
    if any(header.dtype.itemsize != 1 for header in images.values()) or len(train.shape) not in (3, 4):
        raise InvalidData(f"{archive} has images that are no bytes (n, height, width); store them as an npz")
    shape = train.shape[1:] if len(train.shape) == 4 else (1, *train.shape[1:])
    begin_images(draft, spec, (shape[0], shape[1], shape[2]))


def _store(
    content: IO[bytes], header: _Header, what: str, draft: Draft, spec: ImportSpec, part: str, is_images: bool
) -> None:
    _read_header(content, what)
    count, row = header.shape[0], int(np.prod(header.shape[1:], dtype=object)) * header.dtype.itemsize
    for places in cut(np.arange(count), row):
        rows = np.frombuffer(read_exactly(content, len(places) * row, what), dtype=header.dtype)
        if is_images:
            if rows.dtype.kind == "i" and rows.min() < 0:
                raise InvalidData(f"{what} has pixels below 0, and images are stored as bytes, 0 to 255")
            pixels: Array = rows.view(np.uint8).reshape(len(places), *_three(header.shape[1:]))
            draft.parts[part].inputs.append(as_images(pixels, spec, draft.laid_out.shape))
        else:
            draft.parts[part].targets.append(draft.labels.encode(rows))
    if content.read(1):
        raise InvalidData(f"{what} goes on after its end")


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (1, *shape)


@contextmanager
def _content(archive: Archive, entry: Entry, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    if is_packed(entry.head):
        what = entry_words(archive.name, entry.name)
        yield as_binary(unpacked(stream, entry.head, what, entry.size))
    else:
        yield stream


def _read_header(content: IO[bytes], what: str) -> _Header:
    start = read_exactly(content, 4, what)
    with reading(what):
        if start[:2] != b"\0\0" or start[2] not in _DTYPES or not 1 <= start[3] <= 4:
            raise InvalidData(f"{what} is no IDX file")
        sides = np.frombuffer(read_exactly(content, 4 * start[3], what), dtype=">u4")
    return _Header(np.dtype(_DTYPES[start[2]]), tuple(int(side) for side in sides))
