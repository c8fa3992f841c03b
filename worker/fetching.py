"""Files on their way from the store to this host's disk.

Invariant: what is written is what was announced when it was stored: whoever reads it there compares it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path


class Interrupted(Exception):
    """There was a reason to stop before everything was there."""


def write(chunks: Iterable[bytes], target: Path, go_on: Callable[[], bool]) -> None:
    """Write chunks into one file, for as long as `go_on` says so. Raises `Interrupted`, and what reading them does."""
    with target.open("wb") as file:
        for data in chunks:
            file.write(data)
            if not go_on():
                raise Interrupted
