"""What the calls of every noun stand on: a path, an answer in JSON, a listing page by page."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from client.errors import ClientError, Json
from client.printable import one_line
from client.transport import Transport

_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


class Calls:
    """A part of `Client`: the calls of one noun."""

    _transport: Transport

    @property
    def url(self) -> str:
        return self._transport.url

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._transport.request(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise self._not_json(path) from None

    def _not_json(self, path: str) -> ClientError:
        return ClientError(f"{self.url}{path} answered something other than JSON; is it a BNLab server?")

    def _pages(self, path: str, params: Mapping[str, Any], cursor_name: str = "cursor") -> Iterator[Json]:
        cursor: str | int | None = None
        while True:
            page = self._json("GET", path, params={**params, **({cursor_name: cursor} if cursor else {})})
            yield from page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                return


def path_of(experiment_id: str, *parts: str) -> str:
    """The path of an experiment, or of a part of it. Raises `ClientError` for what would be another path or request."""
    return "/".join(("/v1/experiments", *map(checked_id, (experiment_id, *parts))))


def several(words: str | Iterable[str] | None) -> list[str]:
    """One word or many as a list. A single one is not taken for its letters."""
    return [words] if isinstance(words, str) else [*(words or ())]


def checked_id(part: str) -> str:
    """What can stand in a path as an id. Raises `ClientError`."""
    if not _ID.fullmatch(part):
        raise ClientError(f"'{one_line(part)}' is not an id")
    return part
