"""What studies that go on have ahead of them, beyond what was submitted: stages, and how long all of it takes.

Invariant: an estimate, and no more: nothing is decided by it. What a study has ahead is worked out once a process.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from bncore.studies.foreseeing import Ahead, stages_of
from store.columns import core, one_of
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import TERMINAL, State
from store.sweeps.standing import Standing
from store.tables import Job, Study

_JOB, _STUDY = core(Job).c, core(Study).c
Stages = Mapping[str, Standing]


@dataclass(frozen=True)
class Living:
    """A study, or a part of an article, that goes on."""

    id: str
    whole: str
    """The article that it is a part of, or itself."""
    ahead: tuple[Ahead, ...]


def living(session: Session, study_ids: Sequence[str]) -> list[Living]:
    """Those of some studies that have not ended, with the stages that they have; no article, which has only parts."""
    these = (one_of(_JOB.id, study_ids), one_of(_STUDY.id, study_ids), _JOB.id == _STUDY.id)
    rows = select(_STUDY.id, _STUDY.part_of, _STUDY.asked, _STUDY.extensions).where(
        *these, _STUDY.seeds > 0, still_in_state(*(frozenset(State) - TERMINAL)), *owned_by(None)
    )
    return [
        Living(one, part_of or one, _stages(asked, extensions))
        for one, part_of, asked, extensions in session.execute(rows)
    ]


def eta_seconds(each: Sequence[tuple[Stages, Sequence[Ahead]]], together: Standing) -> float | None:
    """Until the last experiment has ended, if as many train at a time as now, each study's at its own pace so far.

    Args:
        each: of every study, what was submitted, by stage, and what has yet to be.
        together: of all that was submitted; its pace is that of a study of which nothing has ended.
    """
    running, usual = together.counts.get(State.RUNNING, 0), together.pace
    if not running or usual is None:
        return None
    seconds = 0.0
    for stages, ahead in each:
        done = [stage.pace for stage in stages.values() if stage.pace is not None]
        pace = sum(done) / len(done) if done else usual
        later = sum(one.steps for one in ahead) * pace
        seconds += later + sum(one.steps_left * (pace if one.pace is None else one.pace) for one in stages.values())
    return seconds / running


def _stages(asked: object, extensions: Sequence[int]) -> tuple[Ahead, ...]:
    try:
        return stages_of(json.dumps(asked, sort_keys=True), tuple(extensions))
    except ValueError:
        # What an earlier version of BNLab took may be no study any more: its next step says so.
        return ()
