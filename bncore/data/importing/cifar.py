"""CIFAR-10 and CIFAR-100 in their binary form: a byte or two of labels before 3,072 of pixels."""

import re
from dataclasses import dataclass
from typing import IO

import numpy as np

from bncore.data.dataset import InvalidData
from bncore.data.importing.archive import Archive, Entry, entry_words
from bncore.data.importing.draft import Draft
from bncore.data.importing.imaging import as_images, begin_images, cut
from bncore.data.importing.streams import read_exactly, reading
from bncore.spec.importing import ImportSpec

_SHAPE = (3, 32, 32)
_PIXELS = 3072
_TEN = re.compile(r"(data_batch_\d+|test_batch)\.bin")
_HUNDRED = re.compile(r"(train|test)\.bin")
_PICKLES = re.compile(r"data_batch_\d+|test_batch|batches\.meta|train|test|meta")
_NAMES = {"batches.meta.txt", "fine_label_names.txt"}
_NAMES_BYTES = 65_536


@dataclass(frozen=True)
class _Batch:
    part: str
    first: int
    examples: int


def is_cifar(entries: list[Entry]) -> bool:
    """Whether entries have the names that CIFAR's have."""
    return any(_TEN.fullmatch(entry.file) for entry in entries) or (
        any(_HUNDRED.fullmatch(entry.file) for entry in entries)
        and any(entry.file == "fine_label_names.txt" for entry in entries)
    )


def refuse_pickles(archive: str, entries: list[Entry]) -> None:
    """Raise `InvalidData` for CIFAR's Python form, and for any other pickle."""
    for entry in entries:
        if entry.head[:1] == b"\x80" and entry.head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            known = _PICKLES.fullmatch(entry.file) is not None
            cure = "take the binary form of CIFAR (cifar-10-binary.tar.gz)" if known else "store numbers, as an npz"
            raise InvalidData(f"{entry_words(archive, entry.name)} is a pickle, and pickles are never read; {cure}")


def read_cifar(archive: Archive, spec: ImportSpec, draft: Draft) -> None:
    """Fill `draft` with the batches of an archive. Raises `InvalidData` where they are not CIFAR's."""
    draft.format = "cifar"
    hundred = not any(_TEN.fullmatch(entry.file) for entry in archive.entries)
    pattern, labels = (_HUNDRED, 2) if hundred else (_TEN, 1)
    entries = [entry for entry in archive.entries if pattern.fullmatch(entry.file)]
    batches = _laid_out(archive, entries, labels + _PIXELS)
    names = _class_names(archive)
    begin_images(draft, spec, _SHAPE)
    for part in ("train", "test"):
        count = sum(batch.examples for batch in batches.values() if batch.part == part)
        if count:
            draft.part(part, count)
    for entry, stream in archive.walk(set(batches)):
        _store(stream, batches[entry.name], entry_words(archive.name, entry.name), labels, names, spec, draft)
    if hundred:
        draft.note("Classes are the 100 fine ones.")


def _laid_out(archive: Archive, entries: list[Entry], record: int) -> dict[str, _Batch]:
    """Where the examples of each entry go: in the order of the batches' numbers."""
    batches: dict[str, _Batch] = {}
    ends = {"train": 0, "test": 0}
    for entry in sorted(entries, key=lambda entry: (len(entry.file), entry.file, entry.name)):
        what = entry_words(archive.name, entry.name)
        part = "test" if entry.file.startswith("test") else "train"
        if entry.size == 0 or entry.size % record:
            raise InvalidData(f"{what} has {entry.size:,} bytes, which is no number of records of {record:,}")
        batches[entry.name] = _Batch(part, ends[part], entry.size // record)
        ends[part] += entry.size // record
    if len({(batch.part, name.rpartition("/")[2]) for name, batch in batches.items()}) < len(batches):
        raise InvalidData(f"{archive.name} has a batch twice, in different folders; keep one")
    return batches


def _class_names(archive: Archive) -> list[str] | None:
    names = [entry for entry in archive.entries if entry.file in _NAMES]
    if not names:
        return None
    for entry, stream in archive.walk({names[0].name}):
        what = entry_words(archive.name, entry.name)
        with reading(what):
            text = stream.read(_NAMES_BYTES).decode("utf-8")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(set(lines)) < len(lines):
            raise InvalidData(f"{what} has a class twice")
        return lines
    return None


def _store(
    stream: IO[bytes], batch: _Batch, what: str, labels: int, names: list[str] | None, spec: ImportSpec, draft: Draft
) -> None:
    part, record = draft.parts[batch.part], labels + _PIXELS
    for places in cut(np.arange(batch.examples), record):
        content = read_exactly(stream, len(places) * record, what)
        rows = np.frombuffer(content, dtype=np.uint8).reshape(len(places), record)
        first = batch.first + int(places[0])
        pixels = np.ascontiguousarray(rows[:, labels:]).reshape(-1, *_SHAPE)
        part.inputs.put(first, as_images(pixels, spec, draft.laid_out.shape))
        part.targets.put(first, _numbers(rows[:, labels - 1], names, what, draft))


def _numbers(classes: "np.ndarray", names: list[str] | None, what: str, draft: Draft) -> "np.ndarray":
    if names is None:
        return draft.labels.encode(classes)
    if classes.max() >= len(names):
        raise InvalidData(f"{what} has the class {classes.max()}, and there are names for {len(names)}")
    return draft.labels.encode([names[place] for place in classes])
