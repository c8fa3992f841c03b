"""Submits the jobs over HTTP as a patient client does: one Idempotency-Key a job, again until there is an answer.

Invariant: an answer that the service may never give, whatever breaks around it, is written down as wrong.
"""

import random
import threading
import time
from collections.abc import Sequence

import httpx

from bench.chaos.ledger import Ledger
from bench.chaos.references import document

_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.3
_AGAIN = 0.15
"""How many of the jobs are sent once more after they were acknowledged."""
# Try again: what the service says while it or its database is away.
_EXPECTED = (503,)


class Submitter:
    """Sends the jobs one after another, evenly over a time; looks at some in between."""

    def __init__(
        self, ledger: Ledger, url: str, api_key: str, *, seed: int, jobs: int, seconds: float, specs: Sequence[str]
    ) -> None:
        self._ledger = ledger
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=_TIMEOUT_SECONDS, trust_env=False
        )
        self._dice = random.Random(f"submit {seed}")
        self._seed = seed
        self._jobs = jobs
        self._seconds = seconds
        self._specs = specs
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Send the rest without pauses; whether that was done in time."""
        self._hurry.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        began = time.monotonic()
        for number in range(self._jobs):
            self._hurry.wait(max(0.0, began + self._seconds * number / self._jobs - time.monotonic()))
            self._submit(number)
            if self._dice.random() < _AGAIN:
                self._submit(self._dice.randrange(number + 1))
            self._look()
        self._http.close()

    def _submit(self, number: int) -> None:
        key = f"chaos-{self._seed}-{number}"
        name, spec = document(number, self._specs)
        self._ledger.spec_of[key] = name
        while True:
            answer = self._send("POST", "/v1/experiments", json=spec, headers={"Idempotency-Key": f'"{key}"'})
            if answer is not None and answer.status_code == 202:
                self._ledger.acknowledge(key, answer.json()["id"])
                return
            time.sleep(_PAUSE_SECONDS)

    def _look(self) -> None:
        known = list(self._ledger.acknowledged.values())
        experiment_id = known[self._dice.randrange(len(known))]
        path = self._dice.choice(("", "/results", "/metrics", "/events", "/checkpoints"))
        self._send("GET", f"/v1/experiments/{experiment_id}{path}")

    def _send(self, method: str, path: str, **content: object) -> httpx.Response | None:
        """The answer; None when there was none."""
        try:
            answer = self._http.request(method, path, **content)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self._ledger.answered(f"{method} {type(error).__name__}")
            return None
        fault = None
        if not answer.is_success and answer.status_code not in _EXPECTED:
            fault = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        self._ledger.answered(f"{method} {answer.status_code}", fault)
        return answer
