"""Runs into groups whose specs differ in nothing but the seed, and what each group measured."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bncore.comparison.differing import as_text, following
from bncore.comparison.meant import told_apart
from bncore.comparison.measure import BEST, STEPS_TO_TARGET, Cell, Measure
from bncore.comparison.runs import PRUNED, Run


@dataclass(frozen=True)
class Group:
    """Runs of one spec, a seed each."""

    where: Mapping[str, Any]
    """What its specs say at the paths at which not all that are compared are alike; left out what they have not."""
    runs: tuple[Run, ...]
    """By seed; of those with one seed the newest that has ended."""
    repeats: tuple[Run, ...]
    """The others."""
    cells: Mapping[str, Cell]

    @property
    def ended(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.ended)

    @property
    def diverged(self) -> int:
        return sum(run.diverged for run in self.ended)

    @property
    def censored(self) -> int:
        """How many had a target and ended without it."""
        return sum(run.has_target and run.summary.get(STEPS_TO_TARGET) is None for run in self.ended)

    @property
    def stop_reasons(self) -> dict[str, int]:
        return dict(Counter(run.stop_reason or "unknown" for run in self.ended))

    @property
    def unfinished(self) -> dict[str, int]:
        """How many have no result, by state; what was pruned is to have none."""
        return dict(Counter(run.state for run in self.runs if not run.ended and run.state != PRUNED))


@dataclass(frozen=True)
class Comparison:
    """The groups, what tells them apart, and what a reader has to know before believing them."""

    paths: tuple[str, ...]
    following: Mapping[str, str] = field(default_factory=dict)
    """Of the paths those that a `kind` decides, and the path of that kind."""
    measures: tuple[Measure, ...] = ()
    groups: tuple[Group, ...] = ()
    warnings: tuple[str, ...] = ()


def compare(runs: Sequence[Run], measures: Sequence[Measure]) -> Comparison:
    """The runs in groups, in the order in which each group has its first run."""
    told = told_apart([run.spec for run in runs])
    paths, wheres = told.paths, told.wheres
    members: dict[str, list[Run]] = {}
    for run, at in zip(runs, wheres, strict=True):
        members.setdefault(as_text(at), []).append(run)
    known = {as_text(at): at for at in wheres}
    groups = tuple(group_of(known[text], found, measures) for text, found in members.items())
    warnings = tuple(_warnings(runs, groups, paths))
    return Comparison(paths, following(paths, wheres), tuple(measures), groups, warnings)


def group_of(at: Mapping[str, Any], members: Sequence[Run], measures: Sequence[Measure]) -> Group:
    """Runs that differ in nothing but the seed, as one group."""
    by_seed: dict[int, Run] = {}
    for run in sorted(members, key=lambda run: (run.ended, run.id)):
        by_seed[run.seed] = run
    runs = tuple(by_seed[seed] for seed in sorted(by_seed))
    chosen = {run.id for run in runs}
    cells = {measure.name: _cell(measure, [run for run in runs if run.ended]) for measure in measures}
    return Group(at, runs, tuple(run for run in members if run.id not in chosen), cells)


def _cell(measure: Measure, ended: Sequence[Run]) -> Cell:
    values: dict[int, float] = {}
    counts: Counter[str] = Counter()
    for run in ended:
        value = measure.of(run.summary, run.series)
        reason = _reason_against(measure, run, value)
        if reason is None and value is not None:
            values[run.seed] = value
        else:
            counts[reason or "missing"] += 1
    return Cell(values, **counts)


def _reason_against(measure: Measure, run: Run, value: float | None) -> str | None:
    """Why a run has nothing to average, by the name of the field of `Cell` that counts it."""
    if measure.name == STEPS_TO_TARGET:
        # A run that reached it did so, whatever came later.
        return None if value is not None else "not_reached" if run.has_target else "missing"
    if run.diverged:
        return "diverged"
    if value is None:
        return "missing"
    return None if math.isfinite(value) else "not_finite"


def _warnings(runs: Sequence[Run], groups: Sequence[Group], paths: Sequence[str]) -> Iterator[str]:
    data = [path for path in paths if path.partition(".")[0] == "data"]
    if data:
        yield f"The data differ ({', '.join(data)}): the numbers are not about one task."
    budgets = sorted({run.total_steps for run in runs if run.total_steps is not None})
    if len(budgets) > 1:
        shown = [f"{steps:,}" for steps in (budgets if len(budgets) < 5 else (budgets[0], budgets[-1]))]
        yield f"The budgets differ: {(' to ' if len(budgets) > 4 else ' and ').join(shown)} steps."
    chosen = sorted({str(run.summary[BEST]["metric"]) for run in runs if isinstance(run.summary.get(BEST), Mapping)})
    if len(chosen) > 1:
        yield f"What is best was chosen by different series: {', '.join(chosen)}."
    yield from _warnings_of_counts(groups)


def _warnings_of_counts(groups: Sequence[Group]) -> Iterator[str]:
    unfinished: Counter[str] = Counter()
    for group in groups:
        unfinished.update(group.unfinished)
    if unfinished:
        said = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        yield f"Runs without a result are in no mean: {said}."
    diverged, ended = sum(group.diverged for group in groups), sum(len(group.ended) for group in groups)
    if diverged:
        yield f"{diverged} of {ended} runs diverged: in no mean but that of the steps to a target they had reached."
    if any(len(group.stop_reasons) > 1 and "target_reached" in group.stop_reasons for group in groups):
        yield "Some runs of a group ended at their target, others did not: their last values are of different steps."
    repeats = sum(len(group.repeats) for group in groups)
    if repeats:
        yield f"Seeds that came again count once, by the newest run that has ended; {repeats} left out."
