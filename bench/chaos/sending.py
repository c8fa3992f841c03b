"""Asks the service over HTTP as a patient client does: again until there is an answer.

Invariant: an answer that the service may never give, whatever breaks around it, is written down as wrong.
"""

import time
from collections.abc import Collection

import httpx

from bench.chaos.ledger import Ledger

_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.3
# Try again: what the service says while it or its database is away.
_AWAY = 503


class Sender:
    """One client with a key."""

    def __init__(self, ledger: Ledger, url: str, api_key: str) -> None:
        self.ledger = ledger
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=_TIMEOUT_SECONDS, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def send(
        self, method: str, path: str, *, besides: Collection[int] = (), **content: object
    ) -> httpx.Response | None:
        """The answer; None when there was none. `besides` may be answered as well as success and 503."""
        try:
            answer = self._http.request(method, path, **content)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self.ledger.answered(f"{method} {type(error).__name__}")
            return None
        fault = None
        if not answer.is_success and answer.status_code not in (_AWAY, *besides):
            fault = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        self.ledger.answered(f"{method} {answer.status_code}", fault)
        return answer

    def insist(self, method: str, path: str, *, besides: Collection[int] = (), **content: object) -> httpx.Response:
        """The same again and again, until it succeeds."""
        while True:
            answer = self.send(method, path, besides=besides, **content)
            if answer is not None and answer.is_success:
                return answer
            time.sleep(_PAUSE_SECONDS)
