"""How far the pruning of a sweep is: which rungs were decided, which come next, and who has yet to come there.

Invariant: how far it is, the rows of rungs and of experiments say and nothing else.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case, func, literal_column, select, update
from sqlalchemy.orm import Session

from bncore.spec.sweep import PruneSpec
from store.columns import core
from store.jobs.conditions import LACKS_ROOM, RESTS, owned_by, still_in_state
from store.jobs.states import TERMINAL, State
from store.tables import Experiment, Job, Sweep, SweepExperiment, SweepRung

_JOB, _EXPERIMENT, _MEMBER, _SWEEP, _RUNG = (
    core(one).c for one in (Job, Experiment, SweepExperiment, Sweep, SweepRung)
)
_HAS_COME = (still_in_state(*TERMINAL) & ~LACKS_ROOM) | (still_in_state(State.PAUSED) & RESTS)
_ON_THE_WAY = (
    select(_MEMBER.arm, func.count(_MEMBER.point.distinct()), func.sum(case((_HAS_COME, 0), else_=1)))
    .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"), _MEMBER.pruned_at.is_(None), *owned_by(None))
    .group_by(_MEMBER.arm)
)
_BUDGET = (
    select(_EXPERIMENT.total_steps)
    .join_from(core(SweepExperiment), core(Experiment), _EXPERIMENT.id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"))
    .limit(1)
)
_DECIDED = (
    select(_RUNG.bracket, _RUNG.number, _RUNG.step, _RUNG.points, _RUNG.kept, _RUNG.decided_at)
    .where(_RUNG.sweep_id == bindparam("wanted"))
    .order_by(_RUNG.bracket, _RUNG.number)
)
_ENDED = (
    select(_MEMBER.point, _MEMBER.arm, _MEMBER.pruned_at)
    .where(_MEMBER.sweep_id == bindparam("wanted"), _MEMBER.pruned_at.is_not(None))
    .distinct()
)
_RANKINGS = select(_RUNG.bracket, _RUNG.step, _RUNG.ranking).where(_RUNG.sweep_id == bindparam("wanted"))


@dataclass(frozen=True)
class Rung:
    """Of one bracket; of one that is to come, as many points as there will be if none is deleted."""

    bracket: str | None
    """The arm whose points are ranked; None where all are."""
    step: int
    points: int
    kept: int
    decided_at: float | None = None
    awaited: int | None = None
    """Experiments that have yet to come to it, where it is the next one of its bracket; those which failed for want of
    their owner's room are among them."""


@dataclass(frozen=True)
class Ended:
    """Where a point was ended, and why."""

    step: int
    rank: int
    of: int
    mean: float | None


def due(session: Session, behind: str, at_most: int) -> list[str]:
    """Sweeps of which rungs are to be decided, the first ones whose ids come behind one."""
    is_open = _SWEEP.prune_state == literal_column("'open'")
    statement = select(_SWEEP.id).where(is_open, _SWEEP.id > behind).order_by(_SWEEP.id).limit(at_most)
    return list(session.execute(statement).scalars())


def move(session: Session, sweep_id: str, states: Sequence[str], target: str) -> None:
    """Of a sweep in one of these states of pruning."""
    these = (_SWEEP.id == sweep_id, _SWEEP.prune_state.in_(states))
    session.execute(update(core(Sweep)).where(*these).values(prune_state=target))


def prune_of(sweep: Sweep) -> PruneSpec:
    """What was asked of a sweep that is pruned."""
    return PruneSpec.model_validate(sweep.spec["prune"])


def steps_of(session: Session, sweep: Sweep) -> list[int]:
    """At which steps its rungs may be; none where nothing of it is left."""
    return prune_of(sweep).rung_steps(budget_of(session, sweep))


def budget_of(session: Session, sweep: Sweep) -> int:
    """The steps of a run that nothing ends early; 0 where nothing of the sweep is left."""
    return session.execute(_BUDGET, {"wanted": sweep.id}).scalar_one_or_none() or 0


def next_rungs(decided: Collection[Any], brackets: Sequence[str | None], steps: Sequence[int]) -> dict[str | None, int]:
    """By bracket the number of the rung that comes next; left out those that have none any more."""
    last = {row.bracket: row for row in decided}
    found = {}
    for name in brackets:
        row = last.get(name or "")
        number = 0 if row is None else row.number + 1
        if number < len(steps) and (row is None or row.kept > 1):
            found[name] = number
    return found


def decided(session: Session, sweep_id: str) -> list[Any]:
    """The rows of rungs without their rankings, bracket by bracket."""
    return list(session.execute(_DECIDED, {"wanted": sweep_id}))


def is_ready(session: Session, sweep: Sweep) -> bool:
    """Whether there is something to decide, or nothing any more."""
    rungs = progress(session, sweep)
    waiting = [rung.awaited for rung in rungs if rung.awaited is not None]
    return not waiting or not all(waiting)


def progress(session: Session, sweep: Sweep) -> list[Rung]:
    """All rungs of a sweep, those that were decided and those that come, bracket by bracket; none where nothing is
    pruned."""
    if sweep.prune_state is None:
        return []
    said, steps = prune_of(sweep), steps_of(session, sweep)
    rows = decided(session, sweep.id)
    brackets = said.brackets(list(sweep.spec["arms"]))
    following = next_rungs(rows, brackets, steps)
    points, awaited = dict.fromkeys(brackets, 0), dict.fromkeys(brackets, 0)
    for arm, count, missing in session.execute(_ON_THE_WAY, {"wanted": sweep.id}):
        points[said.bracket_of(arm)] += count
        awaited[said.bracket_of(arm)] += int(missing)
    found = []
    for name in brackets:
        mine = [row for row in rows if row.bracket == (name or "")]
        found += [Rung(name, row.step, row.points, row.kept, row.decided_at) for row in mine]
        left = points[name]
        for place, step in enumerate(steps[following[name] :] if name in following else ()):
            if place and left < 2:
                break
            found.append(Rung(name, step, left, said.kept(left), awaited=None if place else awaited[name]))
            left = said.kept(left)
    return found


def ended(session: Session, sweep: Sweep) -> dict[int, Ended]:
    """By number the points that were pruned."""
    if sweep.prune_state is None:
        return {}
    gone = {row.point for row in session.execute(_ENDED, {"wanted": sweep.id})}
    return {
        one["point"]: Ended(rung.step, one["rank"], len(rung.ranking), one["mean"])
        for rung in session.execute(_RANKINGS, {"wanted": sweep.id})
        for one in rung.ranking
        if not one["kept"] and one["point"] in gone
    }
