"""The disk of the runs: a small one of its own in memory, where this user may mount, so that it can be full."""

import contextlib
import errno
import subprocess
import threading
from pathlib import Path

_BYTES = 64 << 20
_AGAIN_SECONDS = 0.1


class NoSmallDisk(Exception):
    """This user may not mount one."""


class SmallDisk:
    """Mounted at a folder until `remove`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoSmallDisk(str(getattr(error, "stderr", error)).strip()) from error

    def stay_full(self, until: threading.Event, seconds: float) -> None:
        """Fill it, and whatever becomes free, for so long; then free it."""
        ballast = self._folder / ".ballast"
        try:
            for _ in range(max(1, int(seconds / _AGAIN_SECONDS))):
                with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                    _fill(file)
                if until.wait(_AGAIN_SECONDS):
                    break
        finally:
            ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self._folder)], check=False, capture_output=True)


def _fill(file: object) -> None:
    write = file.write  # type: ignore[attr-defined]
    for size in (1 << 20, 1 << 12, 1):
        while True:
            try:
                write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
