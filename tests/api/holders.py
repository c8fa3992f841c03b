"""Clients of other owners, and of keys that may less."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from store import keys, owners
from store.keys import KeyScope


@contextmanager
def holder(api: Any, owner: str = "other", *scopes: str, expires_in_seconds: float | None = None) -> Iterator[Any]:
    """A client with a key of this owner; its `key` says which."""
    with api.database.write() as session:
        made = keys.create(
            session,
            f"of {owner}",
            owner=owners.create(session, owner),
            scopes=[KeyScope(scope) for scope in scopes or ("submit",)],
            expires_in_seconds=expires_in_seconds,
        )
    headers = {"Authorization": f"Bearer {made.secret}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=300) as client:
        setattr(client, "key", made)  # noqa: B010
        yield client


def status_with(api: Any, secret: str, path: str = "/v1/experiments") -> int:
    """What a key is worth."""
    return httpx.get(f"{api.url}{path}", headers={"Authorization": f"Bearer {secret}"}, timeout=300).status_code
