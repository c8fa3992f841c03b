"""The stages of a study: tune each arm on validation data, widen the grid once, confirm with fresh seeds, extend.

A stage is done when all its experiments have ended, in whatever way; what has failed is missing, and asked for no
second time.
"""

from collections.abc import Mapping
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
    tuned = _tuned(design, found)
    if isinstance(tuned, Batch):
        return tuned
    places = confirmations(tuned, design.pairs) if tuned else _everywhere(design)
    names = (CONFIRM, *(f"extend-{number}" for number in range(1, len(design.extensions) + 1)))
    for name, seeds in zip(names, seeds_of((design.seeds, *design.extensions)), strict=True):
        if name not in found.done:
            return Batch(name, places, seeds)
    fresh = Results(tuple(run for run in found.runs if run.stage in names), found.done)
    return Confirmed(fresh, tuned, tuple(range(design.seeds + sum(design.extensions))))


def _everywhere(design: Design) -> tuple[Place, ...]:
    """Where nothing is tuned: all arms at all settings of the grid, or at that of the template."""
    return tuple(Place(arm.name, each) for arm in design.arms for each in design.grid.settings())


def _tuned(design: Design, found: Results) -> Batch | dict[str, Winner]:
    """The best setting of each arm; none where there is nothing to tune."""
    if design.tuned_by is None:
        return {}
    seeds = tuple(range(TUNING_SEEDS_FROM, TUNING_SEEDS_FROM + design.tuning_seeds))
    arms = [arm.name for arm in design.arms]
    if TUNE not in found.done:
        return _batch(TUNE, arms, design.grid, None, seeds)
    tuning = Results(tuple(run for run in found.runs if run.stage in (TUNE, WIDEN)))
    best = winners(tuning, arms, design.grid, design.tuned_by, seeds)
    wider = widened(design.grid, best)
    if wider is None:
        return best
    if WIDEN not in found.done:
        return _batch(WIDEN, arms, wider, design.grid, seeds)
    return winners(tuning, arms, wider, design.tuned_by, seeds)


def _batch(stage: str, arms: list[str], grid: Grid, but: Grid | None, seeds: tuple[int, ...]) -> Batch:
    known = but.settings() if but else ()
    places = tuple(Place(arm, each) for arm in arms for each in grid.settings() if each not in known)
    return Batch(stage, places, seeds)
