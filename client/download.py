"""From a stored file to one of this machine: whole and right, or not there at all.

Invariant: what the server calls a file decides neither in which folder its file lies nor how large it grows.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from client.errors import ClientError, DownloadMismatch, Json
from client.printable import one_line
from client.transport import Transport


def pick(checkpoints: Sequence[Json], wanted: str, experiment_id: str) -> Json:
    """The checkpoint with that id, or the newest of that kind."""
    found = [entry for entry in checkpoints if wanted in (entry["id"], entry["kind"])]
    if found:
        return max(found, key=lambda entry: int(entry["step"]))
    listed = ", ".join(f"{entry['id']} ({entry['kind']}, step {entry['step']})" for entry in checkpoints) or "none yet"
    raise ClientError(f"{experiment_id} has no checkpoint '{one_line(wanted)}'; it has: {one_line(listed)}")


def target_of(path: str | Path) -> Path:
    """Where to write. Raises `ClientError` for a path that ends as a folder's does, and there is no such folder."""
    text = os.fspath(path)
    ends = (os.sep, *((os.altsep,) if os.altsep else ()))
    if text.endswith((*ends, *(f"{end}." for end in ends))) and not os.path.isdir(text):
        raise ClientError(f"there is no folder {one_line(text)}; make it, or leave out the end, to name a file")
    return Path(path)


def fetch(transport: Transport, content: str, described: Mapping[str, Any], name: str, target: Path) -> Path:
    """Stream `content` beside the target, check it, and rename it into place; in a directory, under that name."""
    if target.is_dir():
        target = target / name
    with whole_file(target) as file:
        transport.retried(lambda: _stream(transport, content, described, file))
    return target


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A file beside the target, which takes its place at the end and is gone after an error. Raises `ClientError`."""
    try:
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise ClientError(f"Cannot write to {target.parent}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes files for the owner alone; a download has the mode of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    except OSError as error:
        _discard(part)
        raise ClientError(f"Cannot write {target}: {error.strerror}") from None
    except BaseException:
        _discard(part)
        raise


def checkpoint_name(experiment_id: str, checkpoint: Mapping[str, Any]) -> str:
    """A name for the file of a checkpoint, of letters, digits, `-` and `_` whatever the server said."""
    parts = (experiment_id, str(checkpoint["kind"]), str(checkpoint["step"]))
    return "-".join(re.sub(r"[^A-Za-z0-9_-]", "_", part)[:64] for part in parts) + ".safetensors"


def safe_name(name: str) -> str:
    """What the server calls a file, of letters, digits, `-`, `_` and dots inside; empty where nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-128:].strip(".")


def _stream(transport: Transport, content: str, described: Mapping[str, Any], file: Any) -> None:
    """One try, from the start: a broken one may have left a piece."""
    file.seek(0)
    file.truncate()
    name = one_line(str(described["id"]))
    digest, size, announced = hashlib.sha256(), 0, int(described["size"])

    def take(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)
        if size > announced:
            raise DownloadMismatch(f"{name}: more bytes came than the {announced} that were announced")
        digest.update(chunk)
        file.write(chunk)

    transport.stream_to(content, {}, take)
    file.flush()
    os.fsync(file.fileno())
    if size != announced:
        raise DownloadMismatch(f"{name}: {size} bytes came, {announced} were announced")
    if digest.hexdigest() != described["sha256"]:
        raise DownloadMismatch(f"{name}: the sha256 of what came is not the one announced")


def _discard(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
