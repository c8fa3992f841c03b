"""What experiments of a sweep cost, and between which costs a search will come, whatever it proposes.

Invariant: the cheapest and the dearest place are specs that a trial may have. Costs move with each axis by itself, so
that the end of each at which it is cheapest makes the cheapest place, and likewise the dearest; what a last, partial
batch of an epoch rounds up may lie beyond.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bncore.spec.data import data_shape
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import SpecError
from bncore.spec.plan import laid_network, steps_per_epoch, total_steps
from bncore.spec.sweep.expanding import Point, Trial, trial_points
from bncore.spec.sweep.spec import SweepSpec

Measure = Callable[[ExperimentSpec], int]
"""Of one experiment."""


@dataclass(frozen=True)
class Extremes:
    """The places of an arm of a search where something is least, and where it is most."""

    least: Point
    most: Point


def steps(spec: ExperimentSpec) -> int:
    """Of its whole budget."""
    return total_steps(spec.train, steps_per_epoch(spec.train, data_shape(spec.data)))


def examples(spec: ExperimentSpec) -> int:
    """That it reads in training: batches of full size."""
    return steps(spec) * spec.train.batch_size


def parameters(spec: ExperimentSpec) -> int:
    """Of its network."""
    sizes = data_shape(spec.data)
    return laid_network(spec.network, sizes.signal, sizes.outputs).parameters


def extremes(search: SweepSpec, corners: Sequence[Point], measure: Measure) -> list[Extremes]:
    """Arm by arm, of a search with a complete template and its `corner_points`."""
    arms: list[str | None] = [*search.arms] or [None]
    return [_extremes(search, [one for one in corners if one.arm == arm], measure) for arm in arms]


def _extremes(search: SweepSpec, corners: Sequence[Point], measure: Measure) -> Extremes:
    def cost(point: Point) -> int:
        return measure(point.spec)

    least, most = min(corners, key=cost), max(corners, key=cost)
    together = [_together(search, corners, functools.partial(choose, key=cost)) for choose in (min, max)]
    known = [*(point for point in together if point is not None), least, most]
    return Extremes(min(known, key=cost), max(known, key=cost))


def _together(search: SweepSpec, corners: Sequence[Point], choose: Callable[[Sequence[Point]], Point]) -> Point | None:
    """All axes at the ends that are chosen of each; None where that is no valid spec, which no trial may be.

    A corner has one axis at its end, and the others are as the template has them.
    """
    assert search.search is not None
    ends = {path: choose([one for one in corners if path in one.at]).at[path] for path in search.search.space}
    try:
        return trial_points(search, [Trial(0, corners[0].arm, ends)])[0]
    except SpecError:
        return None
