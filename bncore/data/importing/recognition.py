"""Which format a file has: by what is in it. Names only decide between forms whose content is alike."""

from pathlib import Path

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.archive import Archive, Entry
from bncore.data.importing.cifar import is_cifar, refuse_pickles
from bncore.data.importing.idx import is_idx
from bncore.data.importing.npz import MAGIC as NUMPY
from bncore.data.importing.pictures import is_image
from bncore.data.importing.streams import is_packed, reading, unpacked
from bncore.data.importing.tars import is_tar
from bncore.spec.importing import Format

PARQUET = b"PAR1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_HEAD_BYTES = 1024
_MOST_TELLING_FIRST: tuple[Format, ...] = ("npz", "parquet", "idx", "folders")
_LOOKED_AT = 64
"""Entries of an archive, the first by name."""
_OTHERS = {
    b"\x89HDF": "HDF5; store the arrays as an npz",
    b"MATLAB": "a MATLAB file; store the arrays as an npz",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save the sheet as CSV",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7z archive; pack it as zip or tar",
    b"Rar!": "a RAR archive; pack it as zip or tar",
    b"SQLite": "an SQLite database; export the table as CSV or Parquet",
    b"RDX": "an R file; write a CSV with write.csv",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard; use gzip, or a zip",
}


def container_of(path: Path) -> str:
    """zip, tar, parquet, or text, which may be packed. Raises `InvalidData` for what is none of these."""
    size = path.stat().st_size
    if size == 0:
        raise InvalidData(f"{path.name} is empty")
    if size > bounds.FILE_BYTES:
        raise InvalidData(f"{path.name} has {size:,} bytes; at most {bounds.FILE_BYTES:,} are taken")
    head = _head(path)
    if head.startswith(_ZIP):
        return "zip"
    if is_tar(head):
        return "tar"
    if head.startswith(PARQUET):
        return "parquet"
    _refuse_others(path.name, head)
    return "text"


def format_of(archive: Archive) -> Format:
    """What the entries of an archive are. Raises `InvalidData` where they are no data set."""
    entries = archive.entries
    if not entries:
        raise InvalidData(f"{archive.name} has no files in it")
    if any(entry.name == "[Content_Types].xml" for entry in entries):
        raise InvalidData(f"{archive.name} is an Excel or Word file; save the sheet as CSV")
    refuse_pickles(archive.name, entries)
    if is_cifar(entries):
        return "cifar"
    looked_at = entries[:_LOOKED_AT]
    found = [_format_of(entry) for entry in looked_at]
    for wanted in _MOST_TELLING_FIRST:
        if wanted in found:
            return wanted
    if any(entry.file.lower().endswith((".csv", ".tsv")) for entry in entries):
        return "csv"
    few = ", ".join(repr(entry.name[:60]) for entry in entries[:3])
    raise InvalidData(
        f"{archive.name} has {few}{', ...' * (len(entries) > 3)}: neither images in folders, arrays of numpy, "
        "IDX files, CIFAR's batches, nor train and test as CSV or Parquet"
    )


def _format_of(entry: Entry) -> Format | None:
    if entry.head.startswith(NUMPY):
        return "npz"
    if entry.head.startswith(PARQUET):
        return "parquet"
    if is_idx(entry.head):
        return "idx"
    return "folders" if is_image(entry.head) else None


def _head(path: Path) -> bytes:
    with path.open("rb") as raw:
        head = raw.read(_HEAD_BYTES)
        if not is_packed(head):
            return head
        raw.seek(0)
        with reading(path.name), unpacked(raw, head, path.name, path.stat().st_size) as stream:
            return stream.read(_HEAD_BYTES)


def _refuse_others(name: str, head: bytes) -> None:
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InvalidData(f"{name} is a pickle, and pickles are never read; store the arrays with numpy.savez")
    if head.startswith(NUMPY):
        raise InvalidData(f"{name} is one array; store inputs and targets together with numpy.savez")
    if is_idx(head):
        raise InvalidData(f"{name} is one IDX file; pack images and labels of train and test into a zip or tar")
    if is_image(head):
        raise InvalidData(f"{name} is one image; pack folders of images, one a class, into a zip or tar")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise InvalidData(f"{name} is {what}")
