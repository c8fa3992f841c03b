"""Sweeps: how far their experiments are, which those are, and what they came to by point."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Real, Shown, utc
from api.shown.comparisons import ComparedCell
from api.shown.experiments import Experiment, Progress
from api.shown.sweep_pruning import PointPruned, SweepPrune, SweepRung, prune_of
from api.shown.waiting import Living
from bncore.comparison import Cell, Group
from bncore.spec.sweep import SearchSpec
from store import tables
from store.jobs.states import TERMINAL, State
from store.sweeps import Ended, MeasuredPoint, Member, Rung, Standing, axes_of, state_of


class SweepLinks(Shown):
    """Addresses on this server, without its name."""

    self_: str = Field(alias="self")
    experiments: str
    results: str
    cancel: str
    pause: str
    resume: str
    retry: str
    extend: str


class SweepSearch(Shown):
    """How far a search is."""

    state: str = Field(description="open while trials are to come, paused, done, stopped (cancelled), failed.")
    note: str | None = Field(description="Why no more trials come.")
    objective: str
    direction: str
    on_test_data: bool = Field(
        description="It chooses by test data, which then say nothing of how good the choice is on others."
    )
    trials: int = Field(description="Of each arm.")
    submitted: int = Field(description="Trials of all arms so far.")


class Sweep(Shown):
    """Experiments of one template, counted."""

    id: str
    name: str | None
    state: str = Field(
        description="queued, running (some have begun, not all have ended), paused; and once all have ended failed if "
        "any has, else cancelled if any was (of itself, and not pruned), else succeeded."
    )
    is_terminal: bool = Field(description="Nothing will change by itself.")
    axes: list[str] = Field(description="Their paths.")
    arms: list[str]
    seeds: list[int]
    points: int = Field(description="Each with every seed.")
    experiments: int = Field(description="How many there are; those that were deleted by themselves count no more.")
    states: dict[str, int] = Field(description="How many are in each.")
    stop_reasons: dict[str, int] = Field(description="Of those that have succeeded, diverged ones among them.")
    asked: int = Field(description="Running ones that were asked to end or rest, and have yet to.")
    progress: Progress
    eta_seconds: float | None = Field(
        description="Until all have ended, if as many run at a time as now, at the pace of those that have succeeded; "
        "what rungs will end is left out, here and in `progress`."
    )
    device: str = Field(description="cpu or cuda: the queue of all of them.")
    search: SweepSearch | None = Field(description="Null where nothing is searched.")
    prune: SweepPrune | None = Field(description="Null where nothing is pruned.")
    created_at: datetime
    links: SweepLinks

    @classmethod
    def of(cls, row: tables.Sweep, standing: Standing) -> "Sweep":
        return cls(**_facts(row, standing))


class SweepNow(Sweep):
    """A sweep looked at by itself."""

    spec: dict[str, Any] = Field(description="As it was asked for; `seeds` beside it are those that it has by now.")
    rungs: list[SweepRung] = Field(description="Arm by arm; none where nothing is pruned.")

    @classmethod
    def seen(cls, row: tables.Sweep, standing: Standing, rungs: Sequence[Rung]) -> "SweepNow":
        return cls(**_facts(row, standing), spec=row.spec, rungs=[SweepRung.of(rung) for rung in rungs])


class SweepExperiment(Shown):
    """An experiment of a sweep."""

    point: int = Field(description="The same for all seeds of one.")
    arm: str | None
    values: dict[str, Any] = Field(description="Of the axes, by their paths.")
    seed: int
    experiment: Experiment

    @classmethod
    def of(cls, member: Member, living: Living) -> "SweepExperiment":
        shown = Experiment.of(member.experiment, living)
        return cls(point=member.point, arm=member.arm, values=member.values, seed=member.seed, experiment=shown)


class SweepCell(ComparedCell):
    """One measure over the seeds of a point."""

    interval: tuple[Real, Real] | None = Field(
        description="Of the mean, by Student's t, where a `confidence` is asked for; null of fewer than two."
    )


class SweepPoint(Shown):
    """What a point came to over its seeds."""

    point: int
    arm: str | None
    values: dict[str, Any] = Field(description="Of the axes, by their paths.")
    n: int = Field(description="Experiments of it that have a result.")
    diverged: int = Field(description="How many of these diverged.")
    censored: int = Field(description="How many of these had a target and ended without it.")
    stop_reasons: dict[str, int]
    unfinished: dict[str, int] = Field(description="Experiments without a result, by state; pruned ones aside.")
    pruned: PointPruned | None = Field(description="Null where it was not.")
    measures: dict[str, SweepCell]
    experiments: list[str] = Field(description="By seed.")

    @classmethod
    def of(cls, point: MeasuredPoint, group: Group, ended: Ended | None) -> "SweepPoint":
        return cls(
            point=point.number,
            arm=point.arm,
            values=point.values,
            n=len(group.ended),
            diverged=group.diverged,
            censored=group.censored,
            stop_reasons=group.stop_reasons,
            unfinished=group.unfinished,
            pruned=None if ended is None else PointPruned(**vars(ended)),
            measures={name: _cell(cell) for name, cell in group.cells.items()},
            experiments=[run.id for run in group.runs],
        )


class SweepResults(Shown):
    """A table with a row a point."""

    axes: list[str]
    arms: list[str]
    seeds: list[int]
    measures: list[str]
    points: list[SweepPoint]

    @classmethod
    def of(
        cls,
        row: tables.Sweep,
        measures: Sequence[str],
        points: Sequence[tuple[MeasuredPoint, Group]],
        ended: Mapping[int, Ended],
    ) -> "SweepResults":
        """`ended` are those that were pruned, by their numbers."""
        shown = [SweepPoint.of(point, group, ended.get(point.number)) for point, group in points]
        return cls(axes=_axes(row), arms=_arms(row), seeds=row.seeds, measures=list(measures), points=shown)

    @property
    def cells(self) -> list[SweepCell]:
        """All of them, point by point."""
        return [point.measures[name] for point in self.points for name in self.measures]

    def with_intervals(self, intervals: Sequence[tuple[float, float] | None]) -> "SweepResults":
        """The same with the intervals of its `cells`."""
        left = iter(intervals)
        points = []
        for point in self.points:
            cells = {name: point.measures[name].model_copy(update={"interval": next(left)}) for name in self.measures}
            points.append(point.model_copy(update={"measures": cells}))
        return self.model_copy(update={"points": points})


def _cell(cell: Cell) -> SweepCell:
    return SweepCell(**ComparedCell.of(cell).model_dump(), interval=None)


def _facts(row: tables.Sweep, standing: Standing) -> dict[str, Any]:
    search = _search(row)
    total = standing.expected_steps
    if search is not None and search.state in ("open", "paused") and row.points:
        # As if those that are to come were like those that are there.
        total = round(total * search.trials * max(1, len(_arms(row))) / row.points)
    fraction = min(1.0, standing.steps / total) if total else 1.0
    return {
        "id": row.id,
        "name": row.name,
        "state": state_of(row, standing),
        "is_terminal": state_of(row, standing) in TERMINAL,
        "axes": _axes(row),
        "arms": _arms(row),
        "seeds": row.seeds,
        "points": row.points,
        "experiments": standing.experiments,
        "states": _by_state(standing.counts),
        "stop_reasons": standing.stop_reasons,
        "asked": standing.asked,
        "progress": Progress(step=standing.steps, total_steps=total, fraction=fraction),
        "eta_seconds": standing.eta_seconds,
        "device": row.queue,
        "search": search,
        "prune": prune_of(row, standing),
        "created_at": utc(row.created_at),
        "links": _links(row.id),
    }


def _search(row: tables.Sweep) -> SweepSearch | None:
    said = row.spec.get("search")
    if said is None:
        return None
    search = SearchSpec.model_validate(said)
    return SweepSearch(
        state=row.search_state or "done",
        note=row.search_note,
        objective=search.objective,
        direction="maximize" if search.maximizes else "minimize",
        on_test_data=search.on_test_data,
        trials=search.trials,
        submitted=row.points,
    )


def _by_state(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.value: counts[state] for state in State if state in counts}


def _axes(row: tables.Sweep) -> list[str]:
    return axes_of(row)


def _arms(row: tables.Sweep) -> list[str]:
    return list(row.spec["arms"])


def _links(sweep_id: str) -> SweepLinks:
    here = f"/v1/sweeps/{sweep_id}"
    named = {name: f"{here}/{name}" for name in SweepLinks.model_fields if name != "self_"}
    return SweepLinks(self_=here, **named)
