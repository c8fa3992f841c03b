"""From a stored checkpoint to a file: whole and right, or not there at all.

Invariant: what the server calls a checkpoint decides neither in which folder its file lies nor how large it grows.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def fetch(transport: Transport, content: str, checkpoint: Mapping[str, Any], experiment_id: str, target: Path) -> Path:
    """The weights of a checkpoint, in a file or, named after them, in a directory."""
    if target.is_dir():
        target = target / _file_name(experiment_id, checkpoint)
    return fetch_file(transport, content, checkpoint, target)


def fetch_file(transport: Transport, content: str, announced: Mapping[str, Any], target: Path) -> Path:
    """Stream `content` beside the target, check it against the announced size and sha256, and rename it into place."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise ClientError(f"Cannot write to {target.parent}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            transport.retried(lambda: _stream(transport, content, announced, file))
        # mkstemp makes files for the owner alone; a download has the mode of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except OSError as error:
        _discard(name)
        raise ClientError(f"Cannot write {target}: {error.strerror}") from None
    except BaseException:
        _discard(name)
        raise
    return target


def _file_name(experiment_id: str, checkpoint: Mapping[str, Any]) -> str:
    """A name for the file of a checkpoint, of letters, digits, `-` and `_` whatever the server said."""
    parts = (experiment_id, str(checkpoint["kind"]), str(checkpoint["step"]))
    return "-".join(re.sub(r"[^A-Za-z0-9_-]", "_", part)[:64] for part in parts) + ".safetensors"


def _stream(transport: Transport, content: str, checkpoint: Mapping[str, Any], file: Any) -> None:
    """One try, from the start: a broken one may have left a piece."""
    file.seek(0)
    file.truncate()
    name = one_line(str(checkpoint["id"]))
    digest, size, announced = hashlib.sha256(), 0, int(checkpoint["size"])

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
    if digest.hexdigest() != checkpoint["sha256"]:
        raise DownloadMismatch(f"{name}: the sha256 of what came is not the one announced")


def _discard(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
