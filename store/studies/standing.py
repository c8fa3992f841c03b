"""How far studies are: their experiments counted by stage, as those of a sweep are.

Invariant: four statements, however many studies and experiments. What an article's parts have is its own, too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from bncore.studies.foreseeing import Ahead
from store.columns import core, one_of
from store.experiments import Mark
from store.jobs.conditions import owned_by
from store.jobs.states import TERMINAL, State
from store.studies.ahead import Stages, eta_seconds, living
from store.sweeps.standing import COUNTED, Standing
from store.tables import Evaluation, Experiment, Job, Study, StudyJob

_JOB, _EXPERIMENT, _EVALUATION, _STUDY, _MEMBER = (
    core(one).c for one in (Job, Experiment, Evaluation, Study, StudyJob)
)


@dataclass
class StudyStanding:
    """The jobs of a study in numbers."""

    experiments: Standing = field(default_factory=Standing)
    """All of them, whatever the stage."""
    stages: dict[str, Standing] = field(default_factory=dict)
    """In the order in which they were submitted."""
    evaluations: dict[str, dict[State, int]] = field(default_factory=dict)
    """By stage."""
    version: int = 0
    """Another one whenever any of them has changed."""
    ahead: list[Ahead] = field(default_factory=list)
    """Stages that have yet to be submitted, about so large, while it goes on; of an article those of all its parts."""
    eta_seconds: float | None = None
    """With what is ahead."""

    def evaluations_in(self, *states: State) -> int:
        """How many are in one of these."""
        return sum(counts.get(state, 0) for counts in self.evaluations.values() for state in states)


def standing(session: Session, study_id: str) -> StudyStanding:
    """How one is."""
    return standings(session, [study_id])[study_id]


def mark_of(study: Study, standing: StudyStanding) -> Mark:
    """How far it has come: each visible change of the study, or of any of its jobs, raises one of the two numbers."""
    return Mark(f"{study.version}-{standing.version}", study.state in TERMINAL)


def marks(session: Session, study_ids: Collection[str]) -> dict[str, Mark]:
    """The marks of many at once; those that do not exist are left out."""
    found = _counted(session, study_ids)[0]
    rows = session.scalars(select(Study).where(one_of(_JOB.id, study_ids), one_of(_STUDY.id, study_ids)))
    return {row.id: mark_of(row, found[row.id]) for row in rows}


def standings(session: Session, study_ids: Collection[str]) -> dict[str, StudyStanding]:
    """How many are, by their ids."""
    found, own = _counted(session, study_ids)
    of: dict[str, list[tuple[Stages, list[Ahead]]]] = {study_id: [] for study_id in found}
    for one in living(session, list(own)):
        stages = own[one.id]
        ahead = [each for each in one.ahead if each.stage not in stages]
        for study_id in {one.id, one.whole} & found.keys():
            of[study_id].append((stages, ahead))
    for study_id, standing in found.items():
        standing.eta_seconds = eta_seconds(of[study_id], standing.experiments)
        standing.ahead = _together([each for _, ahead in of[study_id] for each in ahead])
    return found


def _together(every: Sequence[Ahead]) -> list[Ahead]:
    """Of several studies, by stage."""
    by_stage: dict[str, Ahead] = {}
    for one in every:
        known = by_stage.get(one.stage, Ahead(one.stage, 0, 0))
        by_stage[one.stage] = Ahead(one.stage, known.experiments + one.experiments, known.steps + one.steps)
    return list(by_stage.values())


def _counted(
    session: Session, study_ids: Collection[str]
) -> tuple[dict[str, StudyStanding], dict[str, dict[str, Standing]]]:
    """Each of some studies; and by study, parts included, the stages of its own."""
    found = {study_id: StudyStanding() for study_id in study_ids}
    whole = select(_STUDY.id, _STUDY.part_of, _JOB.version).where(
        one_of(_STUDY.part_of, study_ids), _JOB.id == _STUDY.id, *owned_by(None)
    )
    within = {study_id: [study_id] for study_id in study_ids}
    for part, article, version in session.execute(whole):
        found[article].version += version
        within.setdefault(part, []).append(article)
    own: dict[str, dict[str, Standing]] = {study_id: {} for study_id in within}
    for study_id, stage, _, *row in session.execute(_of_experiments(list(within))):
        own[study_id].setdefault(stage, Standing()).add(row)
        for one in within[study_id]:
            _count(found[one], stage, row)
    for study_id, stage, state, count, version in session.execute(_of_evaluations(list(within))):
        for one in within[study_id]:
            counts = found[one].evaluations.setdefault(stage, {})
            counts[state] = counts.get(state, 0) + count
            found[one].version += int(version)
    return found, own


def _count(to: StudyStanding, stage: str, row: list[Any]) -> None:
    to.experiments.add(row)
    to.stages.setdefault(stage, Standing()).add(row)
    to.version += int(row[6])


def _of_experiments(study_ids: list[str]) -> Select[Any]:
    first = func.min(_MEMBER.place)
    return (
        select(_MEMBER.study_id, _MEMBER.stage, first, *COUNTED)
        .join_from(core(StudyJob), core(Job), _JOB.id == _MEMBER.job_id)
        .join(core(Experiment), _EXPERIMENT.id == _MEMBER.job_id)
        .where(one_of(_MEMBER.study_id, study_ids), *owned_by(None))
        .group_by(_MEMBER.study_id, _MEMBER.stage, _JOB.state, _EXPERIMENT.stop_reason)
        .order_by(first)
    )


def _of_evaluations(study_ids: list[str]) -> Select[Any]:
    return (
        select(_MEMBER.study_id, _MEMBER.stage, _JOB.state, func.count(), func.sum(_JOB.version))
        .join_from(core(StudyJob), core(Job), _JOB.id == _MEMBER.job_id)
        .join(core(Evaluation), _EVALUATION.id == _MEMBER.job_id)
        .where(one_of(_MEMBER.study_id, study_ids), *owned_by(None))
        .group_by(_MEMBER.study_id, _MEMBER.stage, _JOB.state)
    )
