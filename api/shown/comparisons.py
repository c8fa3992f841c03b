"""Experiments side by side."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from api.shown import Real, Shown
from bncore.comparison import Cell, Comparison, Group, Run


class ComparedCell(Shown):
    """One measure over the seeds of a group."""

    mean: Real | None
    sd: Real | None = Field(description="Over seeds, with n - 1 degrees of freedom; null of fewer than two.")
    n: int = Field(description="How many are averaged.")
    by_seed: dict[str, Real] = Field(description="Those.")
    not_reached: int = Field(description="Of `steps_to_target`: runs that ended without it; in no mean.")
    diverged: int = Field(description="Not averaged: their last numbers are those of another step.")
    not_finite: int
    missing: int = Field(description="Ended, and without such a number.")

    @classmethod
    def of(cls, cell: Cell) -> "ComparedCell":
        return cls(
            mean=cell.mean,
            sd=cell.sd,
            n=cell.n,
            by_seed={str(seed): value for seed, value in cell.values.items()},
            not_reached=cell.not_reached,
            diverged=cell.diverged,
            not_finite=cell.not_finite,
            missing=cell.missing,
        )


class ComparedRun(Shown):
    id: str
    seed: int
    state: str
    stop_reason: str | None
    values: dict[str, Real | None] = Field(description="By measure, as the run has them, also where none is averaged.")


class ComparedGroup(Shown):
    """Experiments whose specs differ in nothing but the seed, name and tags."""

    where: dict[str, Any] = Field(description="What their specs say at `paths`; left out what they have not.")
    n: int = Field(description="Experiments of it that have a result, a seed each.")
    diverged: int = Field(description="How many of these diverged.")
    stop_reasons: dict[str, int]
    unfinished: dict[str, int] = Field(description="Experiments without a result, by state.")
    measures: dict[str, ComparedCell]
    runs: list[ComparedRun] = Field(description="By seed; where a seed came again, the newest that has a result.")
    repeats: list[str] = Field(description="Ids of the others.")

    @classmethod
    def of(cls, group: Group, comparison: Comparison) -> "ComparedGroup":
        return cls(
            where=dict(group.where),
            n=len(group.ended),
            diverged=group.diverged,
            stop_reasons=group.stop_reasons,
            unfinished=group.unfinished,
            measures={name: ComparedCell.of(cell) for name, cell in group.cells.items()},
            runs=[_run(run, comparison) for run in group.runs],
            repeats=[run.id for run in group.repeats],
        )


class Compared(Shown):
    """Experiments in groups, sorted."""

    paths: list[str] = Field(description="Where the specs differ, seed, name and tags aside: what makes the groups.")
    following: dict[str, str] = Field(description="Of the paths those that a `kind` decides, and the path of the kind.")
    measures: list[str]
    groups: list[ComparedGroup]
    warnings: list[str] = Field(description="What to know before one believes the means.")

    @classmethod
    def of(cls, comparison: Comparison, groups: Sequence[Group]) -> "Compared":
        return cls(
            paths=list(comparison.paths),
            following=dict(comparison.following),
            measures=[measure.name for measure in comparison.measures],
            groups=[ComparedGroup.of(group, comparison) for group in groups],
            warnings=list(comparison.warnings),
        )


def _run(run: Run, comparison: Comparison) -> ComparedRun:
    values = {measure.name: measure.of(run.summary, run.series) for measure in comparison.measures}
    return ComparedRun(id=run.id, seed=run.seed, state=run.state, stop_reason=run.stop_reason, values=values)
