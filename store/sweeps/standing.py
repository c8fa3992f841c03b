"""How far sweeps are, counted from their experiments.

Invariant: one statement a sweep, which costs what that one holds; what was deleted one by one counts no more. Of many
sweeps at once a database would rather read all jobs there are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, case, func, select
from sqlalchemy.orm import Session

from store.columns import core, one_of
from store.experiments import Mark
from store.jobs.conditions import LACKS_ROOM, RESTS, WAS_PRUNED, owned_by
from store.jobs.states import TERMINAL, State
from store.tables import Experiment, Job, Sweep, SweepExperiment

_JOB, _EXPERIMENT, _MEMBER = core(Job).c, core(Experiment).c, core(SweepExperiment).c
COUNTED = (
    _JOB.state,
    _EXPERIMENT.stop_reason,
    func.count(),
    func.count(_JOB.desired),
    func.sum(_EXPERIMENT.step),
    func.sum(case((WAS_PRUNED, _EXPERIMENT.step), else_=_EXPERIMENT.total_steps)),
    func.sum(_JOB.version),
    func.sum(_JOB.finished_at - _JOB.claimed_at),
    func.count(case((RESTS, 1))),
    func.count(case((WAS_PRUNED, 1))),
    func.count(case((LACKS_ROOM, 1))),
)
"""What `Standing.add` takes, of experiments grouped by their states and stop reasons."""
_COUNTS = (
    select(*COUNTED)
    .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
    .join(core(Experiment), _EXPERIMENT.id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"), *owned_by(None))
    .group_by(_JOB.state, _EXPERIMENT.stop_reason)
)


@dataclass
class Standing:
    """The experiments of a sweep in numbers."""

    counts: dict[State, int] = field(default_factory=dict)
    stop_reasons: dict[str, int] = field(default_factory=dict)
    """Of those that have succeeded."""
    asked: int = 0
    """Of how many something was asked that their workers have yet to do."""
    steps: int = 0
    total_steps: int = 0
    version: int = 0
    """Another one whenever any of them has changed."""
    seconds: float = 0.0
    """That those which have succeeded took, each on its worker, the last attempt alone."""
    resting: int = 0
    """Of those that are paused, how many go on, or are ended, when their rung is decided."""
    pruned: int = 0
    """Of those that are cancelled, how many were by that; of their steps those alone count that they took."""
    without_room: int = 0
    """Of those that failed, how many did since their owner had no room left for checkpoints."""
    spared: int = 0
    """Steps of those that live which will not be taken, since their points will be pruned (`foreseeing`)."""
    rested_at: int = 0
    """The step from which those that have succeeded took theirs in the last attempt."""

    @property
    def experiments(self) -> int:
        return sum(self.counts.values())

    @property
    def state(self) -> State:
        """running as soon as some have begun and not all are through; of those that have ended the worst, where what
        was pruned has ended as it should."""
        counts = {
            **self.counts,
            State.PAUSED: self.counts.get(State.PAUSED, 0) - self.resting,
            State.CANCELLED: self.counts.get(State.CANCELLED, 0) - self.pruned,
        }
        ended = sum(self.counts.get(state, 0) for state in TERMINAL)
        if counts.get(State.RUNNING, 0) or (counts.get(State.QUEUED, 0) and (ended or self.resting)):
            return State.RUNNING
        order = (State.QUEUED, State.PAUSED)
        living = next((state for state in order if counts.get(state, 0)), None)
        if living is not None or self.resting:
            return living or State.RUNNING
        return next((state for state in (State.FAILED, State.CANCELLED) if counts.get(state, 0)), State.SUCCEEDED)

    @property
    def eta_seconds(self) -> float | None:
        """Until the last one ends, if as many train at a time as now and take as long for a step as those before."""
        running, pace = self.counts.get(State.RUNNING, 0), self.pace
        return None if not running or pace is None else self.steps_left * pace / running

    @property
    def pace(self) -> float | None:
        """Seconds a step took, of those that have succeeded; None before one has."""
        done = self._steps_done - self.rested_at * self.counts.get(State.SUCCEEDED, 0)
        return self.seconds / done if done > 0 else None

    @property
    def steps_left(self) -> int:
        """Of those that have not ended."""
        return self.expected_steps - self.steps - self._steps_given_up

    @property
    def expected_steps(self) -> int:
        """Of all, if nothing but pruning ends any early."""
        return self.total_steps - self.spared

    _steps_done: int = 0
    _steps_given_up: int = 0

    def add(self, row: Sequence[Any]) -> None:
        """Count a row of `COUNTED`."""
        state, stop_reason, count, asked, steps, total_steps, version, seconds, *special = row
        resting, pruned, without_room = special
        self.resting += resting
        self.pruned += pruned
        self.without_room += without_room
        self.counts[state] = self.counts.get(state, 0) + count
        self.asked += asked
        self.steps += int(steps)
        self.total_steps += int(total_steps)
        self.version += int(version)
        if state in TERMINAL:
            self._steps_given_up += int(total_steps) - int(steps)
        if state is State.SUCCEEDED:
            self.stop_reasons[stop_reason] = self.stop_reasons.get(stop_reason, 0) + count
            self.seconds += float(seconds or 0.0)
            self._steps_done += int(steps)


def state_of(sweep: Sweep, standing: Standing) -> State:
    """Of the whole: a search that goes on is running though all of its trials have ended, and so is what is to be
    pruned yet; unless it waits for its owner to make room, and to retry what failed for want of it."""
    at_work = any(standing.counts.get(state, 0) for state in (State.QUEUED, State.RUNNING))
    if sweep.prune_state == "paused" and standing.resting and not at_work:
        return State.PAUSED
    paused = standing.counts.get(State.PAUSED, 0) - standing.resting
    if standing.without_room and not at_work and not paused and "open" in (sweep.search_state, sweep.prune_state):
        return State.FAILED
    if standing.state not in TERMINAL:
        return standing.state
    whole = {"open": State.RUNNING, "paused": State.PAUSED, "failed": State.FAILED}
    return whole.get(sweep.search_state or sweep.prune_state or "", standing.state)


def mark_of(sweep: Sweep, standing: Standing) -> Mark:
    """How far it has come; deleting lowers one of the numbers, and all else raises another."""
    version = f"{len(sweep.seeds)}-{standing.experiments}-{standing.version}"
    version += f"-{sweep.search_state}" if sweep.search_state else ""
    version += f"-{sweep.prune_state}-{sweep.rungs_decided}" if sweep.prune_state else ""
    return Mark(version, state_of(sweep, standing) in TERMINAL)


def marks(session: Session, sweep_ids: Collection[str]) -> dict[str, Mark]:
    """The marks of many at once; those that do not exist are left out."""
    found = standings(session, sweep_ids)
    rows = session.scalars(select(Sweep).where(one_of(Sweep.id, list(sweep_ids))))
    return {row.id: mark_of(row, found[row.id]) for row in rows}


def standing(session: Session, sweep_id: str) -> Standing:
    """How one is."""
    found = Standing()
    for row in session.execute(_COUNTS, {"wanted": sweep_id}):
        found.add(row)
    return found


def standings(session: Session, sweep_ids: Collection[str]) -> dict[str, Standing]:
    """How many are, by their ids."""
    return {sweep_id: standing(session, sweep_id) for sweep_id in sweep_ids}
