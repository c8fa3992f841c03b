"""API keys, and the owner whose key this is.

Invariant: no key is made twice. A secret is shown once, so a call that would make another is not repeated where the
first may have been carried out.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from client.calls import Calls, checked_id, several
from client.errors import Json


class KeyCalls(Calls):
    """`/v1/keys` and `/v1/owners/me`."""

    def owner(self) -> Json:
        """Whose key this is: what they use, and may use."""
        answer: Json = self._json("GET", "/v1/owners/me")
        return answer

    def list_keys(self, *, owner: str | None = None) -> Iterator[Json]:
        """Your keys, revoked and expired ones too, oldest first; with the scope `admin` everybody's, or an owner's."""
        yield from self._pages("/v1/keys", {} if owner is None else {"owner": owner})

    def create_key(
        self,
        name: str,
        *,
        scopes: str | Iterable[str] = ("submit",),
        expires_in_seconds: float | None = None,
        owner: str | None = None,
    ) -> Json:
        """A new key, its `secret` in it this once. Scopes are `read`, `submit` (`read` is in it) and `admin`.

        If its answer is lost, `Unreachable` is raised and the key may be there: look for it in `list_keys`, revoke it.
        """
        asked = {"expires_in_seconds": expires_in_seconds, "owner": owner}
        body: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        return self._made("/v1/keys", {"name": name, "scopes": several(scopes), **body})

    def rotate_key(self, key_id: str, *, overlap_seconds: float = 0.0) -> Json:
        """A new key in place of one, which itself works on for the overlap; if its answer is lost, as `create_key`."""
        return self._made(f"/v1/keys/{checked_id(key_id)}/rotate", {"overlap_seconds": overlap_seconds})

    def revoke_key(self, key_id: str) -> None:
        """End a key. Repeats change nothing."""
        self._transport.request("DELETE", f"/v1/keys/{checked_id(key_id)}")

    def _made(self, path: str, body: Json) -> Json:
        answer: Json = self._json("POST", path, body=body, repeatable=False)
        return answer
