"""The attempts at an experiment, and what their trainers printed."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import httpx

from client.calls import LONG_POLL_SECONDS, LONG_POLL_SLACK_SECONDS, OUTAGE_SECONDS, Calls, path_of
from client.errors import Json


class AttemptCalls(Calls):
    """`attempts` and `logs` of an experiment, or by its id of an import or evaluation."""

    def attempts(self, experiment_id: str) -> Iterator[Json]:
        """Who tried it, on what, from which step, and how each try ended; oldest first."""
        yield from self._pages(path_of(experiment_id, "attempts"), {}, cursor_name="after")

    def log(
        self, experiment_id: str, *, attempt: int | None = None, tail: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """What was printed in the newest attempt, or in the one named, or its last `tail` lines; text in pieces.

        With `follow` it goes on with what is printed later, from one attempt to the next, until the experiment has
        ended; a server that is away meanwhile is waited for.
        """
        asked = {"attempt": attempt, "tail": tail}
        params: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        while True:
            answer = self._transport.request(
                "GET",
                path_of(experiment_id, "logs"),
                params=params,
                timeout_seconds=LONG_POLL_SECONDS + LONG_POLL_SLACK_SECONDS,
                retry_seconds=OUTAGE_SECONDS if follow else None,
            )
            if answer.text:
                yield answer.text
            place = _next_place(answer)
            if place is None:
                return
            if not follow and (not answer.text or place["attempt"] != answer.headers.get("X-Attempt")):
                return
            params = place | ({"wait": str(LONG_POLL_SECONDS)} if follow else {})


def _next_place(answer: httpx.Response) -> dict[str, str] | None:
    """Where to read on, of which only the place is taken: a link may lead anywhere."""
    named = dict(parse_qsl(answer.links.get("next", {}).get("url", "").partition("?")[2]))
    if not named.keys() >= {"attempt", "after"}:
        return None
    return {"attempt": named["attempt"], "after": named["after"]}
