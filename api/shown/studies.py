"""Studies: how far they are, stage by stage, and what was judged."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Real, Shown, maybe_utc, utc
from api.shown.experiments import Experiment, Failure, Progress, failure_of
from api.shown.waiting import Living, waiting_for
from bncore.spec.study import ARTICLE
from bncore.studies.asking import has_scale
from bncore.studies.claim import Claim as DesignedClaim
from store import tables
from store.jobs.states import TERMINAL, State
from store.studies import Member, StudyStanding
from store.sweeps import Standing


class StudyLinks(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    experiments: str
    parts: str
    verdict: str
    report: str
    figures: str
    events: str
    attempts: str
    logs: str
    cancel: str
    pause: str
    resume: str
    retry: str
    extend: str


class StudyStage(Shown):
    """The experiments of one stage, and the evaluations of their checkpoints."""

    name: str = Field(description="tune, widen, confirm, extend-1, ...")
    experiments: int
    states: dict[str, int] = Field(description="How many experiments are in each.")
    evaluations: dict[str, int] = Field(description="How many evaluations are in each.")
    progress: Progress

    @classmethod
    def of(cls, name: str, standing: Standing, evaluations: Mapping[State, int]) -> "StudyStage":
        return cls(
            name=name,
            experiments=standing.experiments,
            states=_by_state(standing.counts),
            evaluations=_by_state(evaluations),
            progress=_progress(standing),
        )


class StudyAhead(Shown):
    """A stage that has yet to be submitted."""

    name: str
    experiments: int = Field(description="About so many: more where arms are best at different settings.")
    total_steps: int


class Study(Shown):
    """A question, and how far its answer is."""

    id: str
    kind: str = Field(description="claim, article (all claims, each a study that is part of it) or comparison.")
    claim: str | None
    scale: str | None
    name: str | None
    tags: dict[str, str]
    part_of: str | None = Field(description="The article that it is a part of.")
    state: str = Field(
        description="queued, running (its experiments are on their way, or it is being judged), paused, succeeded (it "
        "has a verdict), failed (`failure` says why, `retry` tries again) or cancelled."
    )
    is_terminal: bool = Field(description="Nothing will change by itself.")
    stage: str | None = Field(description="The last that was submitted.")
    stages: list[StudyStage] = Field(description="In their order.")
    seeds: int = Field(description="That judge, with those of extensions; those that choose a setting are others.")
    most: int = Field(description="To how many it may be extended; fixed before it was first judged.")
    extensions: list[int] = Field(description="How many seeds each has added.")
    experiments: int
    states: dict[str, int] = Field(description="How many experiments are in each.")
    asked: int = Field(description="Running experiments that were asked to end or rest, and have yet to.")
    ahead: list[StudyAhead] = Field(
        description="Stages that follow, while it goes on; a grid that is widened is one more. Of an article, those of "
        "all its parts."
    )
    progress: Progress = Field(description="Of what was submitted and what is ahead, about.")
    eta_seconds: float | None = Field(
        description="About how long until all of that has ended, if as many run at a time as now, at the pace of those "
        "before; of an article each part at its own."
    )
    seconds: float = Field(
        description="From claim to end of the experiments that have succeeded, added up; what their trainers took is "
        "among the facts of the verdict."
    )
    judged: int = Field(description="How often it was; GET .../verdict has the last.")
    outcomes: dict[str, str] | None = Field(
        description="By question, as judged last: holds, does_not_hold or inconclusive, and a label."
    )
    waiting_for: str | None = Field(description="In words, while it is queued: a worker, a time.")
    failure: Failure | None
    device: str = Field(description="cpu or cuda: the queue of all of its experiments.")
    created_at: datetime
    finished_at: datetime | None
    links: StudyLinks

    @classmethod
    def of(cls, row: tables.Study, standing: StudyStanding, living: Living) -> "Study":
        return cls(**_facts(row, standing, living))


class StudyNow(Study):
    """A study looked at by itself."""

    spec: dict[str, Any] = Field(description="As it was asked for, complete.")
    design: dict[str, Any] | None = Field(description="What it does, fixed before it ran; null of an article.")

    @classmethod
    def seen(cls, row: tables.Study, standing: StudyStanding, living: Living) -> "StudyNow":
        return cls(**_facts(row, standing, living), spec=row.asked, design=row.design)


class StudyExperiment(Shown):
    """An experiment of a study."""

    stage: str
    arm: str
    setting: dict[str, Any] = Field(description="What was varied besides the arm, by paths of the spec.")
    seed: int
    evaluations: dict[str, str] = Field(description="By their names in the design, the ids of those of it.")
    experiment: Experiment

    @classmethod
    def of(cls, member: Member, living: Living) -> "StudyExperiment":
        return cls(
            stage=member.stage,
            arm=member.arm,
            setting=member.setting,
            seed=member.seed,
            evaluations=member.evaluations,
            experiment=Experiment.of(member.experiment, living),
        )


class StudyRun(Shown):
    """What a run had to say when it was judged."""

    experiment: str
    stage: str
    arm: str
    setting: dict[str, Any]
    seed: int
    metrics: dict[str, Real | None] = Field(description="null: what is timed did not come within the budget.")
    diverged: bool
    missing: str | None = Field(description="Why it has no numbers: a failure's code, or a state.")
    seconds: float | None
    device: str | None
    torch: str | None


class StudyVerdict(Shown):
    """What was judged, and from which numbers."""

    study: str
    number: int = Field(description="How often it was judged by then.")
    judged_at: datetime
    verdicts: list[dict[str, Any]] = Field(
        description="One a question: outcome, label, sentence, reasons, n, guards, estimand, margin, effects by seed, "
        "and `estimated`: effect, interval, tests, power, extra_seeds, looks; or `counted`, where networks that train "
        "were counted: shares, p, looks, seeds_needed. Of an article, `claim` and `study` too; "
        "corrected for all questions of the report together."
    )
    taken: dict[str, list[int]] = Field(description="By question, how many pairs each look so far had.")
    runs: list[StudyRun] = Field(description="The rows that were judged; of an article none, its parts have them.")
    facts: dict[str, Any] = Field(
        description="seconds, runs, missing (experiments without a result), devices, versions, left_out (parts of an "
        "article without a verdict)."
    )

    @classmethod
    def of(cls, row: tables.StudyVerdict) -> "StudyVerdict":
        return cls(
            study=row.study_id,
            number=row.number,
            judged_at=utc(row.judged_at),
            verdicts=row.verdicts,
            taken=row.taken,
            runs=[StudyRun(**run) for run in row.runs],
            facts=row.facts,
        )


class StudySource(Shown):
    where: str
    says: str
    agrees: bool


class Claim(Shown):
    """What the article says, and what can be asked of it."""

    name: str
    number: str
    says: str
    source: str
    scales: list[str]
    literature: list[StudySource]

    @classmethod
    def of(cls, claim: DesignedClaim) -> "Claim":
        return cls(
            name=claim.name,
            number=claim.number,
            says=claim.says,
            source=claim.source,
            scales=[scale for scale in ("tiny", "cpu", "gpu") if has_scale(claim, scale)],
            literature=[StudySource(where=one.where, says=one.says, agrees=one.agrees) for one in claim.literature],
        )


class Claims(Shown):
    data: list[Claim]


def _facts(row: tables.Study, standing: StudyStanding, living: Living) -> dict[str, Any]:
    # While it waits for its experiments nobody works on it, which is for the queue to know.
    state, ahead = row.standing, standing.ahead
    return {
        "id": row.id,
        "kind": "comparison" if row.claim is None else ARTICLE if row.claim == ARTICLE else "claim",
        "claim": row.claim,
        "scale": row.asked.get("scale") or ("cpu" if row.claim else None),
        "name": row.name,
        "tags": row.tags,
        "part_of": row.part_of or None,
        "state": state,
        "is_terminal": state in TERMINAL,
        "stage": row.stage,
        "stages": _stages(standing),
        "seeds": row.seeds,
        "most": row.most,
        "extensions": row.extensions,
        "experiments": standing.experiments.experiments,
        "states": _by_state(standing.experiments.counts),
        "asked": standing.experiments.asked,
        "ahead": [StudyAhead(name=one.stage, experiments=one.experiments, total_steps=one.steps) for one in ahead],
        "progress": _progress(standing.experiments, sum(one.steps for one in ahead)),
        "eta_seconds": standing.eta_seconds,
        "seconds": standing.experiments.seconds,
        "judged": row.judged,
        "outcomes": row.outcomes,
        "waiting_for": waiting_for(row, living),
        "failure": failure_of(row),
        "device": row.queue,
        "created_at": utc(row.created_at),
        "finished_at": maybe_utc(row.finished_at),
        "links": _links(row.id),
    }


def _stages(standing: StudyStanding) -> Sequence[StudyStage]:
    return [StudyStage.of(name, each, standing.evaluations.get(name, {})) for name, each in standing.stages.items()]


def _progress(standing: Standing, ahead: int = 0) -> Progress:
    total = standing.total_steps + ahead
    fraction = min(1.0, standing.steps / total) if total else 0.0
    return Progress(step=standing.steps, total_steps=total, fraction=fraction)


def _by_state(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.value: counts[state] for state in State if state in counts}


def _links(study_id: str) -> StudyLinks:
    here = f"/v1/studies/{study_id}"
    named = {name: f"{here}/{name}" for name in StudyLinks.model_fields if name not in ("self_", "parts")}
    return StudyLinks(self_=here, parts=f"/v1/studies?part_of={study_id}", **named)
