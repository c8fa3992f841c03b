"""The stages of a study: tune each arm on validation data, widen the grid once, confirm with fresh seeds, extend.

A stage is done when all its experiments have ended, in whatever way; what has failed is missing, and asked for no
second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bncore.studies.claim import TUNING_SEEDS_FROM, Batch, Design, seeds_of
from bncore.studies.results import Place, Results
from bncore.studies.tuning import Grid, Winner, confirmations, widened, winners

TUNE, WIDEN, CONFIRM = "tune", "widen", "confirm"


@dataclass(frozen=True)
class Confirmed:
    """All that was to be run has run."""

    runs: Results
    """With fresh seeds: those of the confirmation and of every extension."""
    best: Mapping[str, Winner]
    """By arm; empty where nothing was tuned."""
    seeds: tuple[int, ...]
    """That were asked for."""


def staged(design: Design, found: Results) -> Batch | Confirmed:
    """The next batch, or the runs to judge.

    Raises:
        TuningIncomplete: of an arm no setting has all its results.
    """
    best = tuned(design, found)
    if isinstance(best, Batch):
        return best
    places = confirmations(best, design.pairs) if best else everywhere(design)
    return confirmed(design, found, places, best)


def tuned(design: Design, found: Results, arms: Sequence[str] | None = None) -> Batch | dict[str, Winner]:
    """The best setting of each arm, or what has to be run to find it; none where there is nothing to tune.

    Args:
        arms: those that are tuned; None: all.

    Raises:
        TuningIncomplete: of an arm no setting has all its results.
    """
    if design.tuned_by is None:
        return {}
    seeds = tuning_seeds(design)
    names = [arm.name for arm in design.arms] if arms is None else list(arms)
    if TUNE not in found.done:
        return _batch(TUNE, names, design.grid, None, seeds)
    tuning = tuning_runs(found)
    best = winners(tuning, names, design.grid, design.tuned_by, seeds)
    wider = widened(design.grid, best)
    if wider is None:
        return best
    if WIDEN not in found.done:
        return _batch(WIDEN, names, wider, design.grid, seeds)
    return winners(tuning, names, wider, design.tuned_by, seeds)


def confirmed(
    design: Design, found: Results, places: tuple[Place, ...], best: Mapping[str, Winner] | None = None
) -> Batch | Confirmed:
    """Those places with fresh seeds, and with those of each extension; then the runs to judge."""
    names = (CONFIRM, *(f"extend-{number}" for number in range(1, len(design.extensions) + 1)))
    for name, seeds in zip(names, seeds_of((design.seeds, *design.extensions)), strict=True):
        if name not in found.done:
            return Batch(name, places, seeds)
    fresh = Results(tuple(run for run in found.runs if run.stage in names), found.done)
    return Confirmed(fresh, best or {}, tuple(range(design.seeds + sum(design.extensions))))


def everywhere(design: Design) -> tuple[Place, ...]:
    """Where nothing is tuned: all arms at all settings of the grid, or at that of the template."""
    return tuple(Place(arm.name, each) for arm in design.arms for each in design.grid.settings())


def tuning_runs(found: Results) -> Results:
    """The runs that choose settings."""
    return Results(tuple(run for run in found.runs if run.stage in (TUNE, WIDEN)))


def tuning_seeds(design: Design) -> tuple[int, ...]:
    return tuple(range(TUNING_SEEDS_FROM, TUNING_SEEDS_FROM + design.tuning_seeds))


def _batch(stage: str, arms: Sequence[str], grid: Grid, but: Grid | None, seeds: tuple[int, ...]) -> Batch:
    known = but.settings() if but else ()
    places = tuple(Place(arm, each) for arm in arms for each in grid.settings() if each not in known)
    return Batch(stage, places, seeds)
