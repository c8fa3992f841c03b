"""Ids: a prefix that names the noun, then a UUIDv7, so that ids sort by the time they were made."""

from uuid_utils import uuid7


def new_id(prefix: str) -> str:
    """For example `exp_` and 32 hex digits."""
    return f"{prefix}_{uuid7().hex}"
