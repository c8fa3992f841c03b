"""Text and numbers from outside, made storable.

Invariant: whatever a trainer died of, its message can be stored and shown: PostgreSQL refuses NUL, UTF-8 has no lone
surrogates, JSON has no NaN, and nobody reads a megabyte.
"""

import math
from typing import Any

MESSAGE_CHARS = 10_000


def storable(text: str, limit: int = MESSAGE_CHARS) -> str:
    """The text with replacement characters where it cannot be stored, cut in the middle when it is too long."""
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    if len(clean) <= limit:
        return clean
    # The start says what failed and the end says why; a traceback's middle says neither.
    half = (limit - 5) // 2
    return f"{clean[:half]} ... {clean[-half:]}"


def finite_json(value: Any) -> Any:
    """The value with non-finite numbers as "NaN", "Infinity" and "-Infinity", and every text storable."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): finite_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(inner) for inner in value]
    return value
