"""From a stored checkpoint to a file: whole and right, or not there at all."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.errors import ClientError, DownloadMismatch, Json
from client.transport import Transport


def pick(checkpoints: Sequence[Json], wanted: str, experiment_id: str) -> Json:
    """The checkpoint with that id, or the newest of that kind."""
    found = [entry for entry in checkpoints if wanted in (entry["id"], entry["kind"])]
    if found:
        return max(found, key=lambda entry: int(entry["step"]))
    listed = ", ".join(f"{entry['id']} ({entry['kind']}, step {entry['step']})" for entry in checkpoints) or "none yet"
    raise ClientError(f"{experiment_id} has no checkpoint {wanted!r}; it has: {listed}")


def fetch(transport: Transport, content: str, checkpoint: Mapping[str, Any], experiment_id: str, target: Path) -> Path:
    """Stream `content` beside the target, check it, and rename it into place."""
    if target.is_dir():
        target = target / f"{experiment_id}-{checkpoint['kind']}-{checkpoint['step']}.safetensors"
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise ClientError(f"Cannot write to {target.parent}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            transport.retried(lambda: _stream(transport, content, checkpoint, file))
        # mkstemp makes files for the owner alone; a download has the mode of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return target


def _stream(transport: Transport, content: str, checkpoint: Mapping[str, Any], file: Any) -> None:
    """One try, from the start: a broken one may have left a piece."""
    file.seek(0)
    file.truncate()
    digest, size = hashlib.sha256(), 0

    def take(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)
        digest.update(chunk)
        file.write(chunk)

    transport.stream_to(content, {}, take)
    file.flush()
    os.fsync(file.fileno())
    if size != int(checkpoint["size"]):
        raise DownloadMismatch(f"{checkpoint['id']}: {size} bytes came, {checkpoint['size']} were announced")
    if digest.hexdigest() != checkpoint["sha256"]:
        raise DownloadMismatch(f"{checkpoint['id']}: the sha256 of what came is not the one announced")
