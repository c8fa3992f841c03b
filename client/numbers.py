"""Numbers that JSON has no word for travel as "NaN", "Infinity" and "-Infinity", and are floats in Python."""

import math
from typing import Any

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def decoded(value: Any) -> Any:
    """A part of an answer that holds numbers and no text, with those words as floats, however deep."""
    if isinstance(value, dict):
        return {key: decoded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [decoded(inner) for inner in value]
    return _WORDS.get(value, value) if isinstance(value, str) else value


def encoded(value: Any) -> Any:
    """The way back: what `json` can write by the standard."""
    if isinstance(value, dict):
        return {key: encoded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
