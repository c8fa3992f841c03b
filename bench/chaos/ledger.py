"""What was done to whom, and what the service has promised: all that is known besides the database.

Invariant: what may have happened is written down before it is tried, what has been acknowledged after.
"""

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from store.jobs.states import State

CANCELS = ("cancel", "kill")


@dataclass(frozen=True)
class Deed:
    """An action as it came out: `done`, or why not."""

    number: int
    kind: str
    at: float
    outcome: str
    what: str = ""


@dataclass
class Asked:
    """A wish; not `certain` while its answer is not there."""

    wish: str
    at: float
    certain: bool = False


@dataclass
class Ledger:
    """Written by many threads."""

    spec_of: dict[str, str] = field(default_factory=dict)
    """Names of specs, or of other kinds of jobs, by the Idempotency-Keys that were sent."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Jobs by Idempotency-Key."""
    references: set[str] = field(default_factory=set)
    """Jobs of other kinds than experiments that ran before anything was disturbed."""
    predictions: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong_answers: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    """Checkpoints, by their ids."""
    deeds: list[Deed] = field(default_factory=list)
    wishes: dict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, key: str, experiment_id: str) -> None:
        with self._changing:
            before = self.acknowledged.setdefault(key, experiment_id)
            if before != experiment_id:
                self.wrong_answers.append(f"{key} was {before} and is {experiment_id}")

    def answered(self, status: str, fault: str | None = None) -> None:
        with self._changing:
            self.answers[status] += 1
            if fault is not None:
                self.wrong_answers.append(fault)

    def ask(self, job_id: str, wish: str) -> Asked:
        with self._changing:
            asked = Asked(wish, time.time())
            self.wishes[job_id].append(asked)
            return asked

    def note(self, deed: Deed) -> None:
        with self._changing:
            self.deeds.append(deed)

    def deeds_to(self, job_id: str) -> list[Deed]:
        return [deed for deed in self.deeds if job_id in deed.what]

    def ends_of(self, job_id: str) -> set[State]:
        """In which states a job can be by what was asked of it; `failed` is a matter of its own."""
        cancelled = False
        for asked in self.wishes.get(job_id, ()):
            if asked.wish in CANCELS:
                cancelled = True
            elif asked.wish == "retry" and asked.certain:
                cancelled = False
        return {State.SUCCEEDED, State.CANCELLED} if cancelled else {State.SUCCEEDED}
