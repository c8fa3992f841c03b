"""Searches of sweeps, taken further whenever trials have ended.

Invariant: what is proposed is a pure function of stored results, worked out in a process made for it, in which alone
Optuna is imported; what is stored of it is one transaction (`store.sweeps.searching`). So a search needs no lease: of
several relays that propose at once all propose the same, and one of them stores it.
"""

import json
import subprocess
import sys
from typing import Any

import structlog

from bncore.spec import SpecError
from bncore.spec.sweep import Trial, load_sweep, trial_points
from store.database import Database
from store.errors import DatasetUnusable
from store.sweeps import SweepSubmission, searching
from store.tables import Sweep
from worker.sweep_turns import SweepTurns

log = structlog.get_logger()

_STEP_SECONDS = 300.0
_NOTE_CHARS = 500


class Searching:
    """Looks for searches of which trials have ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = SweepTurns(database, searching.due, searching.asked, self._step)

    def turn(self) -> bool:
        """Take some a step further, the others with the next turn; whether any was."""
        return self._turns.turn()

    def _step(self, sweep: Sweep, asked: dict[str, Any]) -> bool:
        try:
            return self._add(sweep, asked)
        except (SpecError, DatasetUnusable, _NotProposed) as error:
            log.warning("search_failed", sweep_id=sweep.id, error=str(error))
            with self._database.write() as session:
                searching.fail(session, sweep.id, str(error)[:_NOTE_CHARS])
            return False

    def _add(self, sweep: Sweep, asked: dict[str, Any]) -> bool:
        spec = load_sweep(sweep.spec)
        proposals = _proposed(asked)
        trials = [Trial(one["trial"], one["arm"], one["values"]) for one in proposals]
        submission = SweepSubmission.of(spec, trial_points(spec, trials) if trials else [])
        # Where fewer came than were asked for, nothing new is left in the space of an arm.
        is_last = all(
            one["until"] == asked["search"]["trials"]
            or sum(1 for trial in trials if trial.arm == one["arm"]) < one["until"] - len(one["trials"])
            for one in asked["arms"]
        )
        with self._database.write() as session:
            added = searching.advance(session, sweep, submission, is_last=is_last)
        log.info("search_advanced", sweep_id=sweep.id, trials=len(trials), added=added)
        return added


class _NotProposed(Exception):
    """The process that proposes has failed."""


def _proposed(asked: dict[str, Any]) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "bncore.searching"]
    try:
        done = subprocess.run(
            command, input=json.dumps(asked).encode(), capture_output=True, timeout=_STEP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _NotProposed(f"No trial was proposed within {_STEP_SECONDS:.0f} seconds; retry it") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _NotProposed(f"The process that proposes trials failed: {' '.join(last)}")
    found: list[dict[str, Any]] = json.loads(done.stdout)["proposals"]
    return found
