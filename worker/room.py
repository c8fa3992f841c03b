"""Whether there is room to work in: asked before a worker takes a job, since a full disk is no job's fault."""

import errno
import shutil
import tempfile
from pathlib import Path

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: Exception) -> bool:
    """Whether the error is want of room."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def trouble_in(runs_dir: Path, spare_bytes: int) -> str | None:
    """Why nothing can be written there, in words; None when something can."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        # Without a name, so that nothing is left of it however this ends.
        with tempfile.TemporaryFile(dir=runs_dir, buffering=0) as probe:
            probe.write(b"\0" * 4096)
        free = shutil.disk_usage(runs_dir).free
    except OSError as error:
        return f"cannot write to the directory of runs: {error.strerror}"
    if free < spare_bytes:
        return f"the disk of the directory of runs has {free >> 20} MiB left; {spare_bytes >> 20} are wanted"
    return None
