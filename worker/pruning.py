"""Sweeps that are pruned, looked at whenever their experiments have come further.

Invariant: what is decided follows from what is stored (`store.sweeps.pruning`): of several relays that look, one
decides, and it does not matter which.
"""

import structlog

from store import sweeps
from store.database import Database
from store.errors import SweepNotFound
from store.sweeps import pruning, rungs

log = structlog.get_logger()


class Pruning:
    """Looks for rungs that all have come to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, object] = {}
        """How far a sweep was when there was nothing to decide."""
        self._behind = ""
        """The sweep that was looked at last; "" to begin anew."""

    def turn(self) -> bool:
        """Decide what can be, of some sweeps, the others with the next turn; whether anything was."""
        with self._database.read() as session:
            due = rungs.due(session, self._behind)
        found = False
        for self._behind in due:
            # What goes wrong with one of them keeps no other waiting.
            found = self._step(self._behind) or found
        if len(due) < rungs.AT_ONCE:
            self._behind = ""
        return found

    def _step(self, sweep_id: str) -> bool:
        try:
            with self._database.read() as session:
                sweep = sweeps.get(session, sweep_id)
                mark = sweeps.mark_of(sweep, sweeps.standing(session, sweep_id))
                is_ready = self._seen.get(sweep_id) != mark and rungs.is_ready(session, sweep)
        except SweepNotFound:
            return False
        if not is_ready:
            self._seen[sweep_id] = mark
            return False
        with self._database.write() as session:
            decided = pruning.decide(session, sweep_id)
        log.info("sweep_pruned", sweep_id=sweep_id, rungs=decided)
        return decided > 0
