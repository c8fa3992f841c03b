"""Directories and files that no other user of the machine may look into: the database holds hashes of keys.

Invariant: what is returned from here is ours and closed to group and others, or `DirectoryUnusable` was raised.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from client.errors import ClientError

OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class DirectoryUnusable(ClientError):
    """The data directory cannot be made, or cannot be closed to others; the text says why, on one line."""


def make_private(directory: Path) -> bool:
    """Make a directory with those above it, or close one that is there. True if it was open to others."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
        return make_owner_only(directory)
    except (FileExistsError, NotADirectoryError):
        raise DirectoryUnusable(f"{directory} cannot be made: there is a file in its place") from None
    except OSError as error:
        raise DirectoryUnusable(f"{directory} cannot be used: {error.strerror}") from None


def make_owner_only(path: Path) -> bool:
    """Close a directory or file. True if it was open to others."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise DirectoryUnusable(
            f"{path} belongs to user {found.st_uid}, who could look into it; this is user {os.geteuid()}"
        )
    if not found.st_mode & OPEN_TO_OTHERS:
        return False
    path.chmod(stat.S_IMODE(found.st_mode) & stat.S_IRWXU)
    if path.stat().st_mode & OPEN_TO_OTHERS:
        raise DirectoryUnusable(f"{path} is open to other users, and its file system cannot change that")
    return True


def refuse_foreign(directory: Path, ours: Iterable[Path]) -> None:
    """Raise for a directory that is open to others and holds other things: closing a /tmp would break a machine."""
    try:
        found = list(directory.iterdir())
        is_open = bool(directory.stat().st_mode & OPEN_TO_OTHERS)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DirectoryUnusable(f"{directory} cannot be used: {error.strerror}") from None
    if is_open and found and not any(path in found for path in ours):
        raise DirectoryUnusable(
            f"{directory} holds other things and is open to other users, so it will not be closed to them; "
            "name a directory of its own"
        )
