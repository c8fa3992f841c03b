"""What a process beside the API is asked for in tests."""

import os
import time
from collections.abc import Sequence
from typing import Any


class Unwilling(ValueError):
    code = "unwilling"


def turned(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """The bytes backwards; it prints meanwhile."""
    print("not a message" * 1000)
    os.write(1, b"nor this")
    return b"".join(blob[::-1] for blob in blobs) + str(asked["word"]).encode()


def hungry(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    return bytes(b"x" * asked["bytes"])[:1]


def refusing(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    raise Unwilling("not this")


def failing(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    raise KeyError("nobody foresaw")


def burning(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """So many CPU seconds."""
    until = time.process_time() + asked["cpu_seconds"]
    while time.process_time() < until:
        pass
    return b"burnt"


def slow(asked: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    time.sleep(asked["seconds"])
    return b"late"
