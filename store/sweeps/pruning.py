"""Successive halving of a sweep: who has come to a rung, and what is decided there.

Invariant: a rung is decided once, in one transaction, from stored values alone, when all experiments of its points rest
there or have ended (`bncore.halving`). Points stay or go with all of their seeds. Who looks, how often, and what was
killed before changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from bncore.halving import Contender, Ranked, contender, ranked
from bncore.spec.sweep import PruneSpec
from store import owners, results
from store.columns import core, one_of
from store.database import clock
from store.jobs import wishes
from store.jobs.conditions import LACKS_ROOM, owned_by
from store.jobs.eventlog import Entry
from store.jobs.failures import PRUNED
from store.jobs.moves import Moved, move_all
from store.jobs.states import RESTING, TERMINAL, State
from store.queueing import ROWS_A_STATEMENT
from store.sweeps import rungs
from store.sweeps.locking import locked
from store.sweeps.rungs import prune_of
from store.tables import Experiment, Job, MetricSeries, Sweep, SweepExperiment, SweepRung

_JOB, _EXPERIMENT, _MEMBER, _SERIES, _SWEEP = (
    core(one).c for one in (Job, Experiment, SweepExperiment, MetricSeries, Sweep)
)
_LOSS = "train/loss"
_MEMBERS = (
    select(
        _MEMBER.experiment_id,
        _MEMBER.point,
        _MEMBER.arm,
        _JOB.state,
        _JOB.phase,
        _EXPERIMENT.stop_reason,
        _EXPERIMENT.rest_at,
        LACKS_ROOM.label("lacks_room"),
    )
    .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
    .join(core(Experiment), _EXPERIMENT.id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"), _MEMBER.pruned_at.is_(None), *owned_by(None))
    .order_by(_MEMBER.place)
)
_VALUES = (
    select(_SERIES.experiment_id, _SERIES.key, _SERIES.last, _SERIES.last_step, _SERIES.nonfinite)
    .join_from(core(SweepExperiment), core(MetricSeries), _SERIES.experiment_id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"), _MEMBER.pruned_at.is_(None))
)
_GIVE_REASON = update(core(Job)).where(_JOB.id == bindparam("of_job")).values(failure_message=bindparam("why"))


@dataclass(frozen=True)
class Bracket:
    """Points that are ranked together, and the rung that comes next for them."""

    name: str | None
    number: int
    """Of the rung, from 0."""
    steps: Sequence[int]
    """Of this rung and of those behind it."""
    members: Sequence[Any]
    """Experiments of the points that are left, a row of `_MEMBERS` each."""

    @property
    def step(self) -> int:
        """Of the rung."""
        return self.steps[0]

    @property
    def points(self) -> int:
        return len({row.point for row in self.members})

    @property
    def awaited(self) -> int:
        """How many experiments have yet to come to the rung, or to end: want of room is no end, and ranks nobody."""
        return sum(1 for row in self.members if row.lacks_room or (row.state not in TERMINAL and not self.rests(row)))

    def rests(self, row: Any) -> bool:
        """Whether an experiment has come to the rung."""
        return row.state is State.PAUSED and row.phase == RESTING and row.rest_at == self.step


def decide(session: Session, sweep_id: str) -> int:
    """Decide each rung that all have come to; how many rungs."""
    owner = session.execute(select(_SWEEP.owner).where(_SWEEP.id == sweep_id)).scalar_one_or_none()
    if owner is None:
        return 0
    # As whoever queues jobs of this owner, and then as whoever asks something of the sweep: in one order for all.
    owners.take_turn(session, owner)
    mine = select(Sweep).where(Sweep.id == sweep_id, Sweep.prune_state == "open").with_for_update()
    sweep = session.scalars(mine, execution_options={"populate_existing": True}).one_or_none()
    if sweep is None:
        return 0
    locked(session, sweep_id, {State.PAUSED})
    found, decided = _brackets(session, sweep)
    ready = [one for one in found if not one.awaited]
    values = _values(session, sweep, ready)
    goes_on = [_decide(session, sweep, one, values) for one in ready]
    state = "open" if len(found) > len(ready) or any(goes_on) else "done"
    changes = {"rungs_decided": decided + len(ready), "prune_state": state}
    session.execute(update(core(Sweep)).where(_SWEEP.id == sweep_id).values(changes))
    return len(ready)


def _brackets(session: Session, sweep: Sweep) -> tuple[list[Bracket], int]:
    """Those that have a rung before them, and how many rungs were decided."""
    said, steps = prune_of(sweep), rungs.steps_of(session, sweep)
    rows = rungs.decided(session, sweep.id)
    members: dict[str | None, list[Any]] = defaultdict(list)
    for row in session.execute(_MEMBERS, {"wanted": sweep.id}):
        members[said.bracket_of(row.arm)].append(row)
    following = rungs.next_rungs(rows, said.brackets(list(sweep.spec["arms"])), steps)
    return [Bracket(name, number, steps[number:], members[name]) for name, number in following.items()], len(rows)


def _decide(session: Session, sweep: Sweep, bracket: Bracket, values: Mapping[str, float | None]) -> bool:
    """Of a bracket that is complete at its rung; whether it has another one."""
    said, step = prune_of(sweep), bracket.step
    order = ranked(
        list(_contenders(bracket, len(sweep.seeds), values)),
        said.kept(bracket.points),
        higher_is_better=said.higher_is_better,
    )
    kept = sum(one.kept for one in order)
    row = {"sweep_id": sweep.id, "bracket": bracket.name or "", "number": bracket.number, "step": step}
    row |= {"points": len(order), "kept": kept, "ranking": [asdict(one) for one in order], "decided_at": clock()}
    session.execute(insert(core(SweepRung)).values(row))
    following = bracket.steps[1] if kept > 1 and len(bracket.steps) > 1 else None
    places = {one.point: one for one in order}
    reasons = {row.experiment_id: _reason(said, step, places[row.point], len(order)) for row in bracket.members}
    resting = {row.experiment_id for row in bracket.members if bracket.rests(row)}
    stay = [row.experiment_id for row in bracket.members if places[row.point].kept]
    go = [row.experiment_id for row in bracket.members if not places[row.point].kept]
    _let_go_on(session, stay, resting, following, reasons)
    _end(session, go, resting, step, reasons)
    return following is not None


def _contenders(bracket: Bracket, seeds: int, values: Mapping[str, float | None]) -> Iterator[Contender]:
    points: dict[int, list[Any]] = {}
    for row in bracket.members:
        points.setdefault(row.point, []).append(row)
    for point, rows in points.items():
        is_known = all(row.state not in (State.FAILED, State.CANCELLED) for row in rows)
        yield contender(point, seeds, [_value(row, values) for row in rows], is_known=is_known)


def _value(row: Any, values: Mapping[str, float | None]) -> float | None:
    return None if row.stop_reason == "diverged" else values.get(row.experiment_id)


def _values(session: Session, sweep: Sweep, ready: Sequence[Bracket]) -> dict[str, float | None]:
    """By experiment its value at the rung, or the last one before; None where its training loss was not finite: it has
    diverged, and may not have come to the step at which that ends it."""
    key, steps = prune_of(sweep).metric, {row.experiment_id: one.step for one in ready for row in one.members}
    found: dict[str, float | None] = {}
    rows = session.execute(_VALUES.where(_SERIES.key.in_([key, _LOSS])), {"wanted": sweep.id}).all() if ready else []
    for one, last, last_step in ((row.experiment_id, row.last, row.last_step) for row in rows if row.key == key):
        # Further than its rung is what ran on while its sweep was cancelled.
        beyond = last_step > steps.get(one, last_step)
        found[one] = _value_at(session, one, key, steps[one]) if beyond else last
    return found | {row.experiment_id: None for row in rows if row.key == _LOSS and row.nonfinite}


def _value_at(session: Session, experiment_id: str, key: str, step: int) -> float | None:
    points = results.series(session, experiment_id, [key], last_step=step)[key].values
    return float(points[-1]) if len(points) else None


def _reason(said: PruneSpec, step: int, place: Ranked, points: int) -> str:
    mean = "" if place.mean is None else f" {place.mean:.4g}"
    why = {"measured": f"by {said.metric}{mean}", "lost": "as a seed diverged"}.get(
        place.outcome, "as a seed failed, was cancelled or deleted"
    )
    return f"at step {step:,}: ranked {place.rank:,} of {points:,} {why}."


def _let_go_on(
    session: Session, ids: Sequence[str], resting: set[str], rest_at: int | None, reasons: Mapping[str, str]
) -> None:
    """Ended ones, too, have another rung before them, should they be tried again."""
    for some in _batches(ids):
        session.execute(update(core(Experiment)).where(one_of(_EXPERIMENT.id, some)).values(rest_at=rest_at))
    wishes.go_on(
        session, [one for one in ids if one in resting], lambda moved: Entry("kept", f"Kept {reasons[moved.id]}")
    )


def _end(session: Session, ids: Sequence[str], resting: set[str], step: int, reasons: Mapping[str, str]) -> None:
    """What has ended already stays as it is, and is known to be of a point that was ended."""

    def say(moved: Moved) -> Entry:
        return Entry(PRUNED, f"Pruned {reasons[moved.id]}", {"step": step})

    for some in _batches(ids):
        session.execute(update(core(SweepExperiment)).where(one_of(_MEMBER.experiment_id, some)).values(pruned_at=step))
        these = [one for one in some if one in resting]
        if these:
            move_all(session, State.CANCELLED, say, one_of(_JOB.id, these), failure_code=PRUNED, failure_message="")
            why = [{"of_job": one, "why": f"Pruned {reasons[one]}"} for one in these]
            session.connection().execute(_GIVE_REASON, why)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_A_STATEMENT):
        yield ids[start : start + ROWS_A_STATEMENT]
