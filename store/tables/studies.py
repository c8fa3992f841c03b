"""Studies: what was asked, which jobs they wait for, and what was judged. How far one is, its job says."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS
from store.columns import Count, MaybeWord, Seconds, Table, Word
from store.jobs.states import State
from store.tables.jobs import Job


class Study(Job):
    """A question and how far its answer is; read, it is the job and the study in one.

    Its job is queued, and run, whenever there is something to judge or to submit; in between it is `paused`, `waiting`.
    """

    __tablename__ = "studies"
    __table_args__: tuple[Any, ...] = (
        Index("ix_studies_listed", "part_of", "submitted_at", "id"),
        Index("ix_studies_owner", "submitted_by", "part_of", "submitted_at", "id"),
        Index("ix_studies_waiting", "waiting", "id"),
    )
    __mapper_args__ = {"polymorphic_identity": "study"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    submitted_by: Mapped[Word]
    submitted_at: Mapped[Seconds]
    part_of: Mapped[Word]
    """The article that it is a part of; empty where it is none."""
    name: Mapped[str | None] = mapped_column(String(NAME_CHARS))
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    claim: Mapped[MaybeWord]
    """Its name; None of a comparison."""
    asked: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The complete `StudySpec`."""
    design: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As JSON, to be shown; None of an article."""
    fingerprint: Mapped[MaybeWord]
    """Of the design: a version of BNLab that has another one does not go on with this study."""
    seeds: Mapped[Count]
    """That judge, with those of extensions; 0 of an article."""
    most: Mapped[Count]
    extensions: Mapped[list[int]] = mapped_column(JSON)
    stage: Mapped[str | None] = mapped_column(String(64))
    """The last that was submitted."""
    waiting: Mapped[bool]
    """For jobs of `study_jobs`: it is queued when all of them have ended."""
    held: Mapped[bool]
    """Its owner wants it to rest."""

    judged: Mapped[Count]
    """How often it was."""
    outcomes: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    """By question, as it was judged last."""

    @property
    def standing(self) -> State:
        """Its state as its owner sees it: while it waits for its experiments, and nobody rests, it is running."""
        if self.held and self.state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            return State.PAUSED
        if self.state is State.PAUSED and self.waiting:
            return State.RUNNING
        return State.RUNNING if self.state is State.QUEUED and self.attempt else self.state


class StudyJob(Table):
    """What a study waits for: an experiment, the evaluation of one, or a part of an article."""

    __tablename__ = "study_jobs"
    __table_args__ = (
        Index("ix_study_jobs_place", "study_id", "place"),
        Index("ix_study_jobs_of_experiment", "of_experiment"),
    )

    job_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    study_id: Mapped[Word] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    place: Mapped[Count]
    """In the order of submission."""
    stage: Mapped[str] = mapped_column(String(64))
    arm: Mapped[str | None] = mapped_column(String(64))
    """None of parts of an article."""
    setting: Mapped[dict[str, Any]] = mapped_column(JSON)
    seed: Mapped[Count]
    of_experiment: Mapped[MaybeWord]
    """Of an evaluation, whose checkpoint it measures."""
    evaluation: Mapped[str | None] = mapped_column(String(64))
    """Its name in the design."""
    evaluated: Mapped[bool]
    """Of an experiment: its evaluations have been submitted, those that it can have."""


class StudyVerdict(Table):
    """What was judged, and from which numbers; none is changed or taken back."""

    __tablename__ = "study_verdicts"

    study_id: Mapped[Word] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[Count] = mapped_column(primary_key=True, autoincrement=False)
    """From 1 on."""
    judged_at: Mapped[Seconds]
    verdicts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`bncore.studies.verdict.document` of each."""
    taken: Mapped[dict[str, list[int]]] = mapped_column(JSON)
    """By question, how many pairs each look had, this one included."""
    runs: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """The rows that were judged."""
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Seconds, versions, what is missing."""
