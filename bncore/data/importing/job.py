"""An import from beginning to end: one file in, a data set in canonical form and a report out, or a refusal.

Invariant: nothing is written but the folder that is to hold the data set; what is refused or broken off leaves nothing.
"""

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.archive import Archive, entry_words
from bncore.data.importing.arrays import stop_check
from bncore.data.importing.checking import check_draft
from bncore.data.importing.cifar import read_cifar
from bncore.data.importing.csv_text import csv_table
from bncore.data.importing.draft import PART_NAMES, Draft
from bncore.data.importing.folders import read_folders
from bncore.data.importing.idx import read_idx
from bncore.data.importing.meaning import read_npz
from bncore.data.importing.parquet import parquet_table
from bncore.data.importing.recognition import container_of, format_of
from bncore.data.importing.report import Report
from bncore.data.importing.table import Table
from bncore.data.importing.tables import read_tables
from bncore.data.importing.tars import TarArchive
from bncore.data.importing.writing import write_dataset
from bncore.data.importing.zips import ZipArchive
from bncore.spec.importing import ImportSpec

_COLUMNS = ("part", "columns", "csv")
_NAMES = ("inputs", "targets", "lengths")
_IDLE = {
    "npz": _COLUMNS,
    "csv": ("lengths",),
    "parquet": ("csv",),
    "folders": (*_COLUMNS, *_NAMES, "impute"),
    "idx": (*_COLUMNS, *_NAMES, "impute"),
    "cifar": (*_COLUMNS, *_NAMES, "impute"),
}
"""Options that say nothing of a format."""

Say = Callable[[str], None]


def import_file(
    path: Path,
    options: ImportSpec,
    out_dir: Path,
    *,
    stop_asked: Callable[[], bool] = lambda: False,
    say: Say = lambda _phase: None,
) -> Report:
    """Read one file into `out_dir`, which is made and must not be there: arrays, `dataset.json`, `report.json`, and
    `contact.png` of images.

    `stop_asked` is called for every piece that is read or written; `say` hears reading, checking and writing. Raises
    `InvalidData` for what is no data set, and `Interrupted` once it was asked to stop; then `out_dir` is gone.
    """
    return build(lambda draft, scratch: _read(path, options, draft, scratch), options, out_dir, stop_asked, say)


def build(
    read: Callable[[Draft, Path], None],
    options: ImportSpec,
    out_dir: Path,
    stop_asked: Callable[[], bool],
    say: Say,
) -> Report:
    """The data set that `read` fills a draft with, as `import_file` leaves it."""
    out_dir.mkdir(parents=True)
    scratch = out_dir / "scratch"
    draft = Draft(out_dir, stop_check(stop_asked))
    try:
        scratch.mkdir()
        say("reading")
        read(draft, scratch)
        shutil.rmtree(scratch)
        _refuse_unfilled(draft)
        _refuse_image_options(draft, options)
        say("checking")
        checked = check_draft(draft, options)
        say("writing")
        return write_dataset(draft, checked)
    except BaseException:
        draft.close()
        shutil.rmtree(out_dir, ignore_errors=True)
        raise


def _read(path: Path, options: ImportSpec, draft: Draft, scratch: Path) -> None:
    container = container_of(path)
    if container in ("zip", "tar"):
        archive = ZipArchive(path, draft.check) if container == "zip" else TarArchive(path, draft.check)
        with contextlib.closing(archive):
            _read_archive(archive, options, draft, scratch)
        return
    found = "parquet" if container == "parquet" else "csv"
    _refuse_other(path.name, options, found)
    draft.format = found
    read_tables([_table(path, path.name, found, options, draft, None)], options, draft)


def _table(path: Path, what: str, found: str, options: ImportSpec, draft: Draft, part: str | None) -> Table:
    if found == "parquet":
        return parquet_table(path, what, draft.check, part)
    return csv_table(path, what, options.csv, draft.check, part)


def _read_archive(archive: ZipArchive | TarArchive, options: ImportSpec, draft: Draft, scratch: Path) -> None:
    found = format_of(archive)
    _refuse_other(archive.name, options, found)
    if archive.junk:
        draft.note(f"{archive.junk:,} entries that file managers leave behind (such as .DS_Store) were skipped.")
    if found == "npz":
        if isinstance(archive, TarArchive):
            raise InvalidData(f"{archive.name} is a tar of arrays; write them into one file with numpy.savez")
        read_npz(archive, options, draft, scratch)
        return
    if found in ("csv", "parquet"):
        draft.format = found
        read_tables(_tables(archive, found, options, draft, scratch), options, draft)
        return
    readers: dict[str, Callable[[Archive, ImportSpec, Draft], None]] = {
        "folders": read_folders,
        "idx": read_idx,
        "cifar": read_cifar,
    }
    readers[found](archive, options, draft)


def _refuse_other(name: str, options: ImportSpec, found: str) -> None:
    if options.format not in ("auto", found):
        raise InvalidData(f"{name} should be {options.format}, and is {found} by what is in it")
    idle = [option for option in _IDLE[found] if getattr(options, option) not in (None, {})]
    if idle:
        raise InvalidData(f"{name} is read as {found}, where {' and '.join(idle)} mean nothing; leave them out")
    if found in ("folders", "idx", "cifar") and (options.task or "classification") != "classification":
        raise InvalidData(f"{name} is read as {found}, which has classes; leave task out")
    if found in ("folders", "idx", "cifar") and (options.kind or "image") != "image":
        raise InvalidData(f"{name} is read as {found}, which has images; leave kind out")


def _refuse_image_options(draft: Draft, options: ImportSpec) -> None:
    if draft.laid_out.kind != "image" and (options.resize or options.grayscale):
        raise InvalidData(f"resize and grayscale are for images, and these are {draft.laid_out.kind}s; leave them out")


def _tables(archive: Archive, found: str, options: ImportSpec, draft: Draft, scratch: Path) -> list[Table]:
    """The tables of an archive, each a part by its name; they are laid on the disk, since they are read twice."""
    suffixes = (".parquet",) if found == "parquet" else (".csv", ".tsv")
    entries = [entry for entry in archive.entries if entry.file.lower().endswith(suffixes)]
    parts = {entry.name: _part_named(entry.file) for entry in entries}
    if len(entries) > 1 and (None in parts.values() or len(set(parts.values())) < len(parts)):
        few = ", ".join(sorted(parts)[:5])
        raise InvalidData(f"{archive.name} has the tables {few}; call one of each train, validation or test")
    tables: list[Table] = []
    for entry, stream in archive.walk(set(parts)):
        path = scratch / f"{len(tables)}"
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, bounds.PIECE_BYTES)
        what = entry_words(archive.name, entry.name)
        tables.append(_table(path, what, found, options, draft, parts[entry.name]))
    return tables


def _part_named(file: str) -> str | None:
    words = re.split(r"[^a-z]+", file.lower())
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), None)


def _refuse_unfilled(draft: Draft) -> None:
    for name, part in draft.parts.items():
        if not all(array.is_whole for array in part.arrays.values()):
            raise InvalidData(f"the {name} part has fewer examples than the file said at first: it changed meanwhile")
