"""Sweeps that the relay takes further by steps, some at each turn, so that none waits for the end of others.

Invariant: a step follows from what is stored, and is stored by one transaction that looks again: of several relays that
take it, one does, and it does not matter which. A sweep in which nothing has happened since is not looked at.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from store import sweeps
from store.database import Database
from store.errors import SweepNotFound
from store.tables import Sweep

_AT_ONCE = 20

Asked = TypeVar("Asked")


class SweepTurns(Generic[Asked]):
    """`due` gives sweeps behind an id, so many at most; `ask` what is to be done for one, or None; `step` does it, and
    says whether anything came of it."""

    def __init__(
        self,
        database: Database,
        due: Callable[[Session, str, int], Sequence[str]],
        ask: Callable[[Session, Sweep], Asked | None],
        step: Callable[[Sweep, Asked], bool],
    ) -> None:
        self._database = database
        self._due = due
        self._ask = ask
        self._step = step
        self._seen: dict[str, object] = {}
        """How far a sweep was when there was nothing to do."""
        self._behind = ""
        """The sweep that was looked at last; "" to begin anew."""

    def turn(self) -> bool:
        """Take some a step further, the others with the next turn; whether any was."""
        with self._database.read() as session:
            due = self._due(session, self._behind, _AT_ONCE)
        found = False
        for self._behind in due:
            # What goes wrong with one of them keeps no other waiting.
            found = self._take(self._behind) or found
        if len(due) < _AT_ONCE:
            self._behind = ""
        return found

    def _take(self, sweep_id: str) -> bool:
        try:
            with self._database.read() as session:
                sweep = sweeps.get(session, sweep_id)
                mark = sweeps.mark_of(sweep, sweeps.standing(session, sweep_id))
                asked = None if self._seen.get(sweep_id) == mark else self._ask(session, sweep)
        except SweepNotFound:
            return False
        if asked is None:
            self._seen[sweep_id] = mark
            return False
        return self._step(sweep, asked)
