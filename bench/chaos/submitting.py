"""Submits jobs of every kind over HTTP: one Idempotency-Key a job, again until there is an answer.

Beside each experiment comes an import, an evaluation or a prediction, in turn.
"""

import random
import threading
import time
from collections.abc import Sequence

from bench.chaos import other_kinds
from bench.chaos.other_kinds import Undisturbed
from bench.chaos.references import document
from bench.chaos.sending import Sender

_AGAIN = 0.15
"""How many of the jobs are sent once more after they were acknowledged."""


class Submitter:
    """Sends the jobs one after another, evenly over a time; looks at some in between."""

    def __init__(
        self, sender: Sender, undisturbed: Undisturbed, *, seed: int, jobs: int, seconds: float, specs: Sequence[str]
    ) -> None:
        self._sender = sender
        self._ledger = sender.ledger
        self._undisturbed = undisturbed
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
            self._submit_other(number)
            if self._dice.random() < _AGAIN:
                again = self._dice.randrange(number + 1)
                self._submit(again)
                self._submit_other(again)
            self._look()

    def _submit(self, number: int) -> None:
        key = f"chaos-{self._seed}-{number}"
        name, spec = document(number, self._specs)
        self._ledger.spec_of[key] = name
        answer = self._sender.insist("POST", "/v1/experiments", json=spec, headers={"Idempotency-Key": f'"{key}"'})
        self._ledger.acknowledge(key, answer.json()["id"])

    def _submit_other(self, number: int) -> None:
        name, of = other_kinds.NAMES[number % len(other_kinds.NAMES)], self._undisturbed
        if name == "prediction":
            self._predict()
            return
        key = f"chaos-{self._seed}-{name}-{number}"
        self._ledger.spec_of[key] = name
        if name == "import":
            job_id = other_kinds.bring(self._sender, key, number)
        else:
            job_id = other_kinds.evaluate(self._sender, key, name, of.experiment_id, of.dataset_id)
        self._ledger.acknowledge(key, job_id)

    def _predict(self) -> None:
        answer = other_kinds.predict(self._sender, self._undisturbed.experiment_id)
        self._ledger.predictions["unanswered" if answer is None else "right"] += 1
        if answer not in (None, self._undisturbed.answer):
            self._ledger.answered("prediction", f"a prediction is {answer}, and not {self._undisturbed.answer}")

    def _look(self) -> None:
        known = list(self._ledger.acknowledged.values())
        job_id = known[self._dice.randrange(len(known))]
        noun, further = _ADDRESSES[job_id.partition("_")[0]]
        self._sender.send("GET", f"/v1/{noun}/{job_id}{self._dice.choice(further)}")


_ADDRESSES = {
    "exp": ("experiments", ("", "/results", "/metrics", "/events", "/checkpoints", "/evaluations")),
    "dat": ("datasets", ("", "/events", "/files")),
    "evl": ("evaluations", ("", "/events")),
}
