"""What pruning has made of a sweep so far."""

from datetime import datetime

from pydantic import Field

from api.shown import Real, Shown, maybe_utc
from bncore.spec.sweep import PruneSpec
from store import tables
from store.sweeps import Rung, Standing


class SweepPrune(Shown):
    """How far the pruning is."""

    state: str = Field(description="open while rungs are to be decided, paused, done, stopped (cancelled).")
    metric: str
    higher_is_better: bool
    factor: int
    within: str
    experiments: int = Field(description="How many were pruned; they are among the cancelled ones.")


class SweepRung(Shown):
    """Where points are ranked, and the first of them go on."""

    arm: str | None = Field(description="Whose points; null where those of all are ranked together.")
    step: int
    points: int = Field(description="That came to it, or will.")
    kept: int = Field(description="That go on.")
    decided_at: datetime | None
    awaited: int | None = Field(
        description="Experiments that have yet to come to it, or to end; null where it was decided, or others come "
        "before it."
    )

    @classmethod
    def of(cls, rung: Rung) -> "SweepRung":
        return cls(
            arm=rung.bracket,
            step=rung.step,
            points=rung.points,
            kept=rung.kept,
            decided_at=maybe_utc(rung.decided_at),
            awaited=rung.awaited,
        )


class PointPruned(Shown):
    """Where a point was ended, and behind which others."""

    step: int
    rank: int
    of: int = Field(description="How many points were ranked.")
    mean: Real | None = Field(description="Of the metric over its seeds, at that step; null where a seed had none.")


def prune_of(row: tables.Sweep, standing: Standing) -> SweepPrune | None:
    """None where nothing is pruned."""
    if row.prune_state is None:
        return None
    said = PruneSpec.model_validate(row.spec["prune"])
    return SweepPrune(
        state=row.prune_state,
        metric=said.metric,
        higher_is_better=said.higher_is_better,
        factor=said.factor,
        within=said.within,
        experiments=standing.pruned,
    )
