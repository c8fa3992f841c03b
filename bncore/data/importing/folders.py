"""Archives of images in folders, one a class, under train/, validation/ and test/ where there are such.

Rows are in the order of names; the archive's own order decides nothing.
"""

from collections import Counter
from collections.abc import Mapping
from typing import IO

import numpy as np

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.archive import Archive, Entry, each, entry_words
from bncore.data.importing.draft import PART_NAMES, PARTS, Draft, Layout
from bncore.data.importing.pictures import SUFFIXES, Measured, decode, is_image, measure, turned_note
from bncore.spec.importing import ImportSpec

_TEXTS = (".txt", ".md", ".csv", ".json", ".html", ".xml", ".yaml", ".yml", ".log", ".pdf", ".ini", ".tsv")


def read_folders(archive: Archive, spec: ImportSpec, draft: Draft) -> None:
    """Fill `draft` with the images of an archive. Raises `InvalidData` where they are no data set."""
    draft.format = "folders"
    images = _images(archive, draft)
    parts = _sorted_out(archive.name, images)
    measured = _measured(archive, images)
    height, width = _one_size(archive.name, measured, spec)
    channels = 1 if spec.grayscale else max(seen.channels for seen in measured.values())
    _say_what_changed(draft, measured, (height, width), channels)
    draft.begin(Layout("image", (channels, height, width), "classification"))
    _write(archive, parts, draft)


def _images(archive: Archive, draft: Draft) -> list[Entry]:
    images: list[Entry] = []
    other = 0
    for entry in archive.entries:
        suffix = entry.file.lower()
        if is_image(entry.head) or suffix.endswith(SUFFIXES):
            images.append(entry)
        elif suffix.endswith(_TEXTS):
            other += 1
        else:
            what = entry_words(archive.name, entry.name)
            known = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise InvalidData(f"{what} is no image that is read ({known}); remove it, or save it as one")
    if other:
        draft.note(f"{other} texts beside the images were skipped.")
    if not images:
        raise InvalidData(f"{archive.name} has no images in it")
    return images


def _sorted_out(archive: str, images: list[Entry]) -> dict[str, dict[str, str]]:
    """Of each part, the class of each entry by its name."""
    skipped = _common_folders(images)
    below = {entry.name: entry.folders[skipped:] for entry in images}
    tops = {folders[0] for folders in below.values() if folders}
    named = {top for top in tops if top.lower() in PART_NAMES}
    if named and named != tops:
        others = ", ".join(sorted(tops - named)[:5])
        raise InvalidData(f"{archive} has folders beside {', '.join(sorted(named))}: {others}; put all into parts")
    if len({PART_NAMES[name.lower()] for name in named}) < len(named):
        raise InvalidData(f"{archive} has a part twice: {', '.join(sorted(named))}; keep one of each")
    parts: dict[str, dict[str, str]] = {}
    for name, folders in below.items():
        inner = folders[1:] if named else folders
        if not inner:
            what = entry_words(archive, name)
            raise InvalidData(f"{what} lies in no folder of a class; put it into [train/]CLASS/")
        part = PART_NAMES[folders[0].lower()] if named else "train"
        parts.setdefault(part, {})[name] = inner[0]
    if not named and any(len(folders) > 1 and folders[1].lower() in PART_NAMES for folders in below.values()):
        raise InvalidData(f"{archive} has parts within classes; turn it round, to train/CLASS/ and test/CLASS/")
    _refuse_different_classes(archive, parts)
    return parts


def _common_folders(images: list[Entry]) -> int:
    """How many of the outermost folders hold everything and say nothing."""
    depth = min(len(entry.folders) for entry in images)
    count = 0
    while count < depth - 1:
        tops = {entry.folders[count] for entry in images}
        if len(tops) > 1 or next(iter(tops)).lower() in PART_NAMES:
            break
        count += 1
    return count


def _refuse_different_classes(archive: str, parts: Mapping[str, Mapping[str, str]]) -> None:
    if "train" not in parts:
        raise InvalidData(f"{archive} has no train/, only {', '.join(f'{part}/' for part in parts)}")
    train = set(parts["train"].values())
    for part, entries in parts.items():
        classes = set(entries.values())
        for name, lacking in ((part, train - classes), ("train", classes - train)):
            if lacking:
                few = ", ".join(sorted(lacking)[:10])
                raise InvalidData(f"{archive}: {name}/ lacks classes that the other has: {few}; every part wants each")


def _measured(archive: Archive, images: list[Entry]) -> dict[str, Measured]:
    measured: dict[str, Measured] = {}

    def look(entry: Entry, stream: IO[bytes]) -> None:
        what = entry_words(archive.name, entry.name)
        measured[entry.name] = measure(_content(entry, stream, what), what)

    each(archive, images, look)
    return measured


def _one_size(archive: str, measured: Mapping[str, Measured], spec: ImportSpec) -> tuple[int, int]:
    if spec.size is not None:
        return spec.size
    sizes = Counter(seen.size for seen in measured.values())
    # Of equally many the smaller, so that the message does not depend on the archive's order.
    common = min(sizes, key=lambda size: (-sizes[size], size))
    if len(sizes) > 1:
        name = min(name for name, seen in measured.items() if seen.size != common)
        height, width = measured[name].size
        raise InvalidData(
            f"{archive} has images of {len(sizes)} sizes: {sizes[common]} of {common[0]} x {common[1]}, but "
            f"{name!r} has {height} x {width} (height x width); say resize, for example [{common[0]}, {common[1]}]"
        )
    return common


def _say_what_changed(draft: Draft, measured: Mapping[str, Measured], size: tuple[int, int], channels: int) -> None:
    gray = sum(seen.channels == 1 for seen in measured.values())
    if channels == 3 and gray:
        draft.note(f"{gray} gray images were given three equal channels.")
    transparent = sum(seen.transparent for seen in measured.values())
    if transparent:
        draft.note(f"Transparency of {transparent} images was dropped.")
    turned = sum(seen.turned for seen in measured.values())
    if turned:
        draft.note(turned_note(turned))
    changed = sum(seen.size != size for seen in measured.values())
    if changed:
        draft.note(f"{changed} images were resized to {size[0]} x {size[1]}.")


def _write(archive: Archive, parts: Mapping[str, Mapping[str, str]], draft: Draft) -> None:
    channels, height, width = draft.laid_out.shape
    places: dict[str, tuple[str, int]] = {}
    wanted: list[Entry] = []
    by_name = {entry.name: entry for entry in archive.entries}
    for part in (part for part in PARTS if part in parts):
        names = sorted(parts[part])
        draft.part(part, len(names)).targets.append(draft.labels.encode([parts[part][name] for name in names]))
        places |= {name: (part, row) for row, name in enumerate(names)}
        wanted += [by_name[name] for name in names]

    def store(entry: Entry, stream: IO[bytes]) -> None:
        part, row = places[entry.name]
        what = entry_words(archive.name, entry.name)
        pixels = decode(_content(entry, stream, what), what, channels, (height, width))
        draft.parts[part].inputs.put(row, pixels[np.newaxis])

    each(archive, wanted, store)


def _content(entry: Entry, stream: IO[bytes], what: str) -> bytes:
    if entry.size > bounds.IMAGE_BYTES:
        raise InvalidData(f"{what} has {entry.size:,} bytes; an image of at most {bounds.IMAGE_BYTES:,} is taken")
    if entry.size == 0:
        raise InvalidData(f"{what} is empty")
    return stream.read(-1)
