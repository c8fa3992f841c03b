"""What an API process and the process beside it say to each other: a JSON object, and bytes behind it.

A message is the length of the object (4 bytes, big-endian), the object, and as many bytes as its `sizes` say.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

LENGTH = struct.Struct(">I")


def head_of(document: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Length and object; the bytes come after them."""
    text = json.dumps({**document, "sizes": [len(blob) for blob in blobs]}).encode()
    return LENGTH.pack(len(text)) + text
