"""The search of a sweep: what it has found so far, and the trials that come to it.

Invariant: how far a search is, the rows of its trials say and nothing else. Trials are added only where nobody has
added any since they were proposed: however many propose at once, and whatever is killed in between, none is there
twice and none is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import literal_column, select, update
from sqlalchemy.orm import Session

from bncore.comparison import Measure, Run, group_of, measures
from bncore.comparison.measure import series_key
from bncore.searching import FAILED, LOST, MEASURED, OPEN
from bncore.spec.sweep import SearchSpec, SweepSpec, load_sweep
from store import owners
from store.columns import core
from store.jobs.states import TERMINAL, State
from store.sweeps.measuring import MeasuredPoint, measured
from store.sweeps.submitting import SweepSubmission, add
from store.tables import Sweep

_SWEEP = core(Sweep).c
_ENDED = frozenset(state.value for state in TERMINAL)


def due(session: Session, behind: str, at_most: int) -> list[str]:
    """Sweeps of which more trials are to come, the first ones whose ids come behind one."""
    is_open = _SWEEP.search_state == literal_column("'open'")
    statement = select(_SWEEP.id).where(is_open, _SWEEP.id > behind).order_by(_SWEEP.id).limit(at_most)
    return list(session.execute(statement).scalars())


def first(spec: SweepSpec) -> dict[str, Any]:
    """What `bncore.searching.propose` is asked before there is a trial."""
    assert spec.search is not None
    return _asked(
        spec.search, [(arm, [], min(spec.search.trials, spec.search.at_once)) for arm in spec.arms or (None,)]
    )


def asked(session: Session, sweep: Sweep) -> dict[str, Any] | None:
    """What it is asked now; None where trials have to end before there can be more."""
    spec = load_sweep(sweep.spec)
    assert spec.search is not None
    by_arm = history(session, sweep, spec)
    arms = [(arm, trials, _until(spec.search, trials)) for arm, trials in by_arm.items()]
    return _asked(spec.search, arms) if any(until > len(trials) for _, trials, until in arms) else None


def history(session: Session, sweep: Sweep, spec: SweepSpec) -> dict[str | None, list[dict[str, Any] | None]]:
    """By arm its trials in their order: {values, outcome, value}; None where one was deleted."""
    assert spec.search is not None
    key = series_key(spec.search.objective)
    (measure,) = measures([spec.search.objective], [key])
    arms: list[str | None] = [*spec.arms] or [None]
    found: dict[str | None, list[dict[str, Any] | None]] = {arm: [] for arm in arms}
    for point in measured(session, sweep, [key]):
        trials = found[point.arm]
        trials.extend([None] * (point.number // len(arms) + 1 - len(trials)))
        trials[-1] = _trial(point, measure, len(sweep.seeds))
    return found


def advance(session: Session, sweep: Sweep, submission: SweepSubmission, *, is_last: bool) -> bool:
    """Queue trials that were proposed from what `sweep` was; False, and nothing, where that has changed since.

    Raises `DatasetUnusable`.
    """
    owners.take_turn(session, sweep.owner)
    now = session.execute(select(_SWEEP.points, _SWEEP.search_state).where(_SWEEP.id == sweep.id)).one_or_none()
    if now is None or tuple(now) != (sweep.points, "open"):
        return False
    if submission.points:
        add(session, sweep, submission)
    came = len({point.number for point in submission.points})
    values = {"points": sweep.points + came, "search_state": "done" if is_last else "open"}
    session.execute(update(core(Sweep)).where(_SWEEP.id == sweep.id).values(**values))
    return True


def fail(session: Session, sweep_id: str, note: str) -> None:
    """No more trials come, for this reason, until it is retried."""
    move(session, sweep_id, ["open"], "failed", note)


def move(session: Session, sweep_id: str, states: Sequence[str], target: str, note: str | None = None) -> None:
    """Of a search in one of these states."""
    these = (_SWEEP.id == sweep_id, _SWEEP.search_state.in_(states))
    session.execute(update(core(Sweep)).where(*these).values(search_state=target, search_note=note))


def _until(search: SearchSpec, trials: Sequence[Mapping[str, Any] | None]) -> int:
    """How many there may be by now: `at_once` behind the first that has not ended."""
    ended = next((place for place, one in enumerate(trials) if one is not None and one["outcome"] == OPEN), len(trials))
    return min(search.trials, ended + search.at_once)


def _asked(
    search: SearchSpec, arms: Sequence[tuple[str | None, Sequence[Mapping[str, Any] | None], int]]
) -> dict[str, Any]:
    said = {**search.model_dump(mode="json"), "direction": "maximize" if search.maximizes else "minimize"}
    return {"search": said, "arms": [{"arm": arm, "trials": list(of), "until": until} for arm, of, until in arms]}


def _trial(point: MeasuredPoint, measure: Measure, seeds: int) -> dict[str, Any]:
    cell = group_of(point.values, point.runs, [measure]).cells[measure.name]
    outcome = OPEN if point.lacks_room else _outcome(point.runs, cell.n == seeds)
    mean = cell.mean if outcome == MEASURED else None
    if mean is not None and not math.isfinite(mean):
        outcome, mean = LOST, None
    return {"values": point.values, "outcome": outcome, "value": mean}


def _outcome(runs: Sequence[Run], is_whole: bool) -> str:
    if any(run.state not in _ENDED for run in runs):
        return OPEN
    if is_whole:
        return MEASURED
    # Something that went wrong elsewhere says nothing of the point.
    return LOST if all(run.state == State.SUCCEEDED for run in runs) else FAILED
