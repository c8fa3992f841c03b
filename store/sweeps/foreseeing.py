"""What pruning will spare a sweep: its rungs are known before anything is ranked, and how many stay at each.

Invariant: what is foreseen depends on what lives, and on rungs that were decided; once all are, nothing is foreseen.
"""

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from bncore.spec.sweep import seeds_of
from store.columns import core
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import TERMINAL, State
from store.sweeps import rungs
from store.sweeps.standing import Standing, standing
from store.tables import Job, Sweep, SweepExperiment

_JOB, _MEMBER = core(Job).c, core(SweepExperiment).c
_LIVING = (
    select(_MEMBER.arm, func.count())
    .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
    .where(_MEMBER.sweep_id == bindparam("wanted"), _MEMBER.pruned_at.is_(None), *owned_by(None))
    .where(still_in_state(*(state for state in State if state not in TERMINAL)))
    .group_by(_MEMBER.arm)
)


def foreseen(session: Session, sweep: Sweep) -> Standing:
    """How it is, with what its rungs will spare it."""
    found = standing(session, sweep.id)
    if sweep.prune_state is not None:
        budget = rungs.budget_of(session, sweep)
        found.rested_at = _last_rest(sweep, budget)
        if sweep.prune_state != "stopped":
            found.spared = _spared(session, sweep, budget)
    return found


def _spared(session: Session, sweep: Sweep, budget: int) -> int:
    """Steps of those that live, and will be ended at a rung. What has ended before it is the first to go there."""
    said, coming = rungs.prune_of(sweep), rungs.progress(session, sweep)
    left = dict.fromkeys(said.brackets(list(sweep.spec["arms"])), 0)
    for arm, count in session.execute(_LIVING, {"wanted": sweep.id}):
        left[said.bracket_of(arm)] += count
    spared = 0
    for rung in coming:
        if rung.decided_at is None:
            stay = min(left[rung.bracket], rung.kept * len(sweep.seeds))
            spared += (left[rung.bracket] - stay) * (budget - rung.step)
            left[rung.bracket] = stay
    return spared


def _last_rest(sweep: Sweep, budget: int) -> int:
    """The step at which whoever came to the end had begun its last attempt; seeds that came later rest nowhere."""
    said = rungs.prune_of(sweep)
    if len(sweep.seeds) > len(seeds_of(sweep.spec["seeds"])):
        return 0
    brackets = said.brackets(list(sweep.spec["arms"]))
    planned = said.rungs(sweep.points // len(brackets), budget)
    return planned[-1].step if planned else 0
