"""What finished experiments have to say to a study: one row a run, and no more than that.

Invariant: a run that diverged is scored, never left out; a run whose number is not there is missing, and counted as
such.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bncore import moments

Scalar = float | int | str | bool
Setting = tuple[tuple[str, Scalar], ...]
"""What was varied besides the arm, `(path in the spec, value)` sorted by path."""


class ResultsUnfit(ValueError):
    """The table cannot be what a study has stored: a run twice, an arm that nobody asked for."""


@dataclass(frozen=True)
class Run:
    """One experiment that has ended."""

    arm: str
    seed: int
    metrics: Mapping[str, float | None]
    """By name. None: the event that is timed did not come within the budget."""
    setting: Setting = ()
    diverged: bool = False
    """The loss was not finite, or beyond 1e3 (Bjorck et al., arXiv 1806.02375, section 3.1)."""
    stage: str = ""


@dataclass(frozen=True)
class Metric:
    """A number of a run, and what it is where training diverged."""

    key: str
    higher_is_better: bool = True
    when_diverged: float | None = None
    """For an accuracy chance, 1 / classes: what the network would be good for, had it not been trained."""
    when_never: float | None = None
    """For a time by which settings are compared: the budget."""
    before_training: bool = False
    """Taken at initialization: it stands, whatever training made of the network."""

    def of(self, run: Run) -> float | None:
        """The number; None where there is none, not even by convention."""
        value = run.metrics.get(self.key)
        diverged = run.diverged and not self.before_training
        if diverged or (value is not None and not math.isfinite(value)):
            return self.when_diverged
        return self.when_never if value is None and self.key in run.metrics else value


@dataclass(frozen=True)
class Place:
    """Where runs stand that are compared: an arm at a setting."""

    arm: str
    setting: Setting = ()


@dataclass(frozen=True)
class Results:
    """All that a study has stored so far."""

    runs: tuple[Run, ...] = ()
    done: tuple[str, ...] = ()
    """The stages of which every experiment has ended."""

    def at(self, place: Place) -> dict[int, Run]:
        """The runs of an arm at a setting, by seed.

        Raises:
            ResultsUnfit: a seed is there twice.
        """
        found: dict[int, Run] = {}
        for run in self.runs:
            if (run.arm, run.setting) == (place.arm, place.setting):
                if run.seed in found:
                    raise ResultsUnfit(f"{place.arm} has seed {run.seed} twice at {dict(place.setting)}")
                found[run.seed] = run
        return dict(sorted(found.items()))

    def places(self) -> tuple[Place, ...]:
        """Where there are runs, in an order that is theirs."""
        return tuple(sorted({Place(run.arm, run.setting) for run in self.runs}, key=lambda each: str(each)))

    def mean(self, place: Place, metric: Metric) -> float:
        """Over the runs there that have the number; NaN where none has."""
        numbers = [number for run in self.at(place).values() if (number := metric.of(run)) is not None]
        return moments.mean(numbers) if numbers else math.nan


def setting(values: Mapping[str, Scalar]) -> Setting:
    return tuple(sorted(values.items()))


def results(rows: Iterable[Mapping[str, Any]], done: Iterable[str] = ()) -> Results:
    """From plain rows `{arm, seed, metrics, setting?, diverged?, stage?}`, e.g. of JSON."""
    return Results(tuple(_run(row) for row in rows), tuple(done))


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        arm=row["arm"],
        seed=row["seed"],
        metrics=dict(row["metrics"]),
        setting=setting(row.get("setting", {})),
        diverged=row.get("diverged", False),
        stage=row.get("stage", ""),
    )
