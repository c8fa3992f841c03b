"""Sweeps that are pruned, looked at whenever their experiments have come further.

Invariant: what is decided follows from what is stored (`store.sweeps.pruning`): of several relays that look, one
decides, and it does not matter which.
"""

from typing import Literal

import structlog
from sqlalchemy.orm import Session

from store.database import Database
from store.sweeps import pruning, rungs
from store.tables import Sweep
from worker.sweep_turns import SweepTurns

log = structlog.get_logger()


class Pruning:
    """Looks for rungs that all have come to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = SweepTurns(database, rungs.due, _asked, self._decide)

    def turn(self) -> bool:
        """Decide what can be, of some sweeps, the others with the next turn; whether anything was."""
        return self._turns.turn()

    def _decide(self, sweep: Sweep, _: Literal[True]) -> bool:
        with self._database.write() as session:
            decided = pruning.decide(session, sweep.id)
        log.info("sweep_pruned", sweep_id=sweep.id, rungs=decided)
        return decided > 0


def _asked(session: Session, sweep: Sweep) -> Literal[True] | None:
    return True if rungs.is_ready(session, sweep) else None
