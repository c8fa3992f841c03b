"""What the calls of every noun stand on: a path, an answer in JSON, a listing page by page."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from client.errors import ClientError, Json, WaitTimeout
from client.printable import one_line
from client.transport import Transport

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
LONG_POLL_SECONDS = 10.0
"""Short enough that a server which stands still is noticed while somebody watches."""
LONG_POLL_SLACK_SECONDS = 10.0
OUTAGE_SECONDS = 120.0
"""How long `wait` sits out a server that is away: an experiment outlives a restart of the API."""
_NOUNS = {"dat": "datasets", "evl": "evaluations", "swp": "sweeps", "stu": "studies"}
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

    def _ended(
        self,
        path: str,
        job_id: str,
        timeout_seconds: float | None,
        read: Callable[[Json], Json],
        on_progress: Callable[[Json], object] | None,
    ) -> Json:
        """What `path` answers once the job has ended, however it ended. Raises `WaitTimeout`."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        etag: str | None = None
        found: Json | None = None
        while True:
            left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, deadline - time.monotonic())
            asked = time.monotonic()
            answer = self._transport.request(
                "GET",
                path,
                params={"wait": max(0, round(left, 1))} if found is not None else None,
                headers={"If-None-Match": etag} if etag else None,
                timeout_seconds=LONG_POLL_SECONDS + LONG_POLL_SLACK_SECONDS,
                retry_seconds=OUTAGE_SECONDS,
            )
            if answer.status_code == 304 and found is not None and found.get("state") == "queued":
                # What is before it in the queue moves, and its ETag does not.
                answer = self._transport.request("GET", path, retry_seconds=OUTAGE_SECONDS)
            if answer.status_code != 304:
                found, etag = read(answer.json()), answer.headers.get("ETag")
                if on_progress is not None:
                    on_progress(found)
                if is_terminal(found):
                    return found
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(job_id, timeout_seconds or 0.0, found)
            if etag is None:
                # Without a tag the server cannot wait for a change; ask it once a second.
                time.sleep(max(0.0, 1.0 - (time.monotonic() - asked)))

    def _pages(self, path: str, params: Mapping[str, Any], cursor_name: str = "cursor") -> Iterator[Json]:
        cursor: str | int | None = None
        while True:
            page = self._json("GET", path, params={**params, **({cursor_name: cursor} if cursor else {})})
            yield from page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                return


def is_terminal(experiment: Mapping[str, Any]) -> bool:
    """Whether nothing will change any more. A state that this client does not know is not the end."""
    return experiment.get("state") in TERMINAL


def path_of(job_id: str, *parts: str) -> str:
    """The path of a job or sweep, or of a part of it: the noun is what its id says, else that of an experiment.

    Raises `ClientError` for what would be another path or request.
    """
    noun = _NOUNS.get(job_id.partition("_")[0], "experiments")
    return "/".join((f"/v1/{noun}", *map(checked_id, (job_id, *parts))))


def several(words: str | Iterable[str] | None) -> list[str]:
    """One word or many as a list. A single one is not taken for its letters."""
    return [words] if isinstance(words, str) else [*(words or ())]


def checked_id(part: str) -> str:
    """What can stand in a path as an id. Raises `ClientError`."""
    if not _ID.fullmatch(part):
        raise ClientError(f"'{one_line(part)}' is not an id")
    return part
