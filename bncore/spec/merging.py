"""JSON Merge Patch (RFC 7396): a document that looks like what it changes, where null takes away."""

from typing import Any


def merged(target: Any, patch: Any) -> Any:
    """What the patch makes of the target, which stays as it is."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
