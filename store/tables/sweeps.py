"""Sweeps: what was asked, and which experiments came of it. How far they are, their jobs say."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS
from store.columns import Count, MaybeCount, MaybeWord, Seconds, Table, Word, where


class Sweep(Table):
    """Experiments of one template. It is no job: nobody works on it."""

    __tablename__ = "sweeps"
    __table_args__ = (
        Index("ix_sweeps_created_at", "created_at", "id"),
        Index("ix_sweeps_owner", "owner", "created_at", "id"),
        Index("ix_sweeps_searching", "id", **where("search_state = 'open'")),
        Index("ix_sweeps_pruning", "id", **where("prune_state = 'open'")),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word]
    name: Mapped[str | None] = mapped_column(String(NAME_CHARS))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What was asked, seeds that came later not included."""
    seeds: Mapped[list[int]] = mapped_column(JSON)
    """All that it has by now."""
    points: Mapped[Count]
    """Each with every seed; of a search, those that were submitted."""
    queue: Mapped[str] = mapped_column(String(16))
    """cpu or cuda: where its experiments wait."""
    created_at: Mapped[Seconds]
    search_state: Mapped[MaybeWord]
    """open while trials are to come, paused, done, stopped (cancelled), failed; None where nothing is searched."""
    search_note: Mapped[str | None] = mapped_column(Text)
    """Why no more trials come."""
    prune_state: Mapped[MaybeWord]
    """open while rungs are to be decided, paused, done, stopped (cancelled); None where nothing is pruned."""
    rungs_decided: Mapped[MaybeCount]
    """By now, of all brackets; None where nothing is pruned."""


class SweepExperiment(Table):
    """Which point of a sweep an experiment is."""

    __tablename__ = "sweep_experiments"
    __table_args__ = (Index("ix_sweep_experiments_place", "sweep_id", "place"),)

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sweep_id: Mapped[Word] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    place: Mapped[Count]
    """In the order of the sweep, which is that of the queue."""
    point: Mapped[Count]
    arm: Mapped[str | None] = mapped_column(String(64))
    seed: Mapped[Count]
    values: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Of the axes, by their paths."""
    pruned_at: Mapped[MaybeCount]
    """The step at which its point was ended, if it was."""


class SweepRung(Table):
    """What was decided at one rung of one bracket of a sweep that is pruned; written once."""

    __tablename__ = "sweep_rungs"

    sweep_id: Mapped[Word] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    bracket: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The arm whose points were ranked; "" where all were."""
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 0."""
    step: Mapped[Count]
    points: Mapped[Count]
    """That came to it."""
    kept: Mapped[Count]
    """That went on."""
    ranking: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """From the best on: {point, rank, outcome, mean, kept} (`bncore.halving.Ranked`)."""
    decided_at: Mapped[Seconds]
