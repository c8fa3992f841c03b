"""Whether the experiments could answer the question at all: claims that fail a guard are inconclusive, whatever the
interval says.

Each guard is a check of results, with a sentence that says what was found.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bncore.studies.estimand import Effects
from bncore.studies.results import Metric, Place, Results
from bncore.studies.tuning import Winner

SEEDS_FLOOR = 6
"""Fewer pairs cannot reach p = .05 by their signs: 2 / 2^5 = .0625."""
GuardName = Literal[
    "enough_pairs",
    "all_measured",
    "baseline_trains",
    "winner_inside_grid",
    "treatment_trains",
    "target_reached",
    "control_trains",
    "control_fails",
    "something_to_repair",
]
COMPLETENESS: tuple[GuardName, ...] = ("enough_pairs", "all_measured")
"""Those that say nothing of how well the experiments were made: more runs cure them."""


@dataclass(frozen=True)
class Guard:
    name: GuardName
    passed: bool
    sentence: str


def enough_pairs(effects: Effects, floor: int = SEEDS_FLOOR) -> Guard:
    """Nothing is missing, and there are enough seeds for any test."""
    n, lost = len(effects.values), len(effects.missing)
    if lost:
        sentence = _lacking(effects, n + lost)
    elif n < floor:
        sentence = f"There are {n} seeds, and with fewer than {floor} no verdict is given."
    else:
        sentence = f"All {n} seeds have a result in every arm."
    return Guard("enough_pairs", not lost and n >= floor, sentence)


def all_measured(found: Results, place: Place, seeds: int, keys: Sequence[str]) -> Guard:
    """For what is not a mean over seeds: every run has every number."""
    whole = sum(all(run.metrics.get(key) is not None for key in keys) for run in found.at(place).values())
    return Guard("all_measured", whole == seeds, f"{whole} of {seeds} runs of {place.arm} have all that was measured.")


def baseline_trains(found: Results, place: Place, accuracy: Metric, least: float | None = None) -> Guard:
    """g1: the baseline trains, at its own best setting. Not for claims that it cannot train.

    `least` is an accuracy in the place of `bar`, and so it is of `treatment_trains`.
    """
    return _trains("baseline_trains", found, place, accuracy, least)


def treatment_trains(found: Results, place: Place, accuracy: Metric, least: float | None = None) -> Guard:
    """g3: the arm that the claim is about trains."""
    return _trains("treatment_trains", found, place, accuracy, least)


def control_trains(found: Results, place: Place, accuracy: Metric) -> Guard:
    """g5: the network without normalization trains with batches of the same composition."""
    return _trains("control_trains", found, place, accuracy)


def control_fails(found: Results, place: Place, accuracy: Metric) -> Guard:
    """For claims that a treatment withstands a harm: without it, the harm keeps the network from training."""
    trains = _trains("control_fails", found, place, accuracy)
    has_scores = any(accuracy.of(run) is not None for run in found.at(place).values())
    return Guard("control_fails", has_scores and not trains.passed, f"{trains.sentence} It was to fail.")


def winner_inside_grid(winners: Mapping[str, Winner]) -> Guard:
    """g2: no arm was best at the edge of the grid, where something better may lie beyond."""
    at_edge = [f"{arm} at {path} = {side}" for arm, winner in winners.items() for path, side in winner.edges.items()]
    if at_edge:
        return Guard(
            "winner_inside_grid",
            False,
            f"Best at the edge of the grid: {', '.join(at_edge)}. Better settings may lie beyond it.",
        )
    return Guard("winner_inside_grid", True, "Every arm was best inside the grid.")


def target_reached(effects: Effects) -> Guard:
    """g4: at least half of the seeds of some arm reached the target."""
    shares = {arm: sum(of.reached) / len(of.reached) for arm, of in effects.reaching.items() if of.reached}
    said = ", ".join(f"{share:.0%} of the seeds with {arm}" for arm, share in shares.items()) or "no seed of any arm"
    return Guard("target_reached", any(share >= 0.5 for share in shares.values()), f"The target was reached by {said}.")


def something_to_repair(damage: Effects, least: float) -> Guard:
    """For claims that a damage is repaired: there is one, in the mean over seeds, as shares of 1."""
    mean = math.fsum(damage.values) / len(damage.values) if damage.values else math.nan
    sentence = f"There are {100 * mean:.1f} points to repair; more than {100 * least:g} are asked for."
    return Guard("something_to_repair", mean > least, sentence)


def bar(chance: float) -> float:
    """The accuracy from which on a network is said to train.

    Three times chance; with few classes, where that is near 1 or beyond, half-way from chance to 1.
    """
    return min(3 * chance, (1 + chance) / 2)


def _trains(name: GuardName, found: Results, place: Place, accuracy: Metric, asked_for: float | None = None) -> Guard:
    """By the mean over seeds, those that diverged scored as chance."""
    if accuracy.when_diverged is None:
        raise ValueError(f"whether an arm trains cannot be said without chance for {accuracy.key}")
    scores = [score for run in found.at(place).values() if (score := accuracy.of(run)) is not None]
    if not scores:
        return Guard(name, False, f"There is no {accuracy.key} of {place.arm}.")
    mean = math.fsum(scores) / len(scores)
    least = bar(accuracy.when_diverged) if asked_for is None else asked_for
    verb = "trains" if mean >= least else "does not train"
    return Guard(name, mean >= least, f"{place.arm} {verb}: {accuracy.key} {mean:.3f}, {least:.3f} is asked for.")


def _lacking(effects: Effects, planned: int) -> str:
    """Which seeds, and what to do."""
    lost = tuple(seed for seed in effects.missing if seed not in effects.unusable)
    said = []
    if lost:
        said += [
            f"{len(lost)} of {planned} seeds lack a result in an arm (seeds {_listed(lost)}); retry those experiments."
        ]
    if effects.unusable:
        why = "a number never came, is too large, is not above 0 for a ratio, or is of a run that diverged"
        said += [
            f"{len(effects.unusable)} of {planned} seeds have no effect (seeds {_listed(effects.unusable)}): {why}."
        ]
    return " ".join(said)


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds[:5])) + (", ..." if len(seeds) > 5 else "")
