"""From a sweep to its experiments.

Invariant: all of it is valid, or nothing comes: what is wrong is said with the values of the axes that make it so. No
two points are one spec.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.spec.budget import TrainSpec
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import MAX_FAULTS, Fault, SpecError, pointer_part
from bncore.spec.parse import load_spec
from bncore.spec.shared_parts import Reading, Writing
from bncore.spec.sweep.axes import values_of
from bncore.spec.sweep.paths import NoWay, as_pointer, has, null_on_the_way, put
from bncore.spec.sweep.placing import Place, named, placed
from bncore.spec.sweep.search import corners
from bncore.spec.sweep.spec import MOST_EXPERIMENTS, Extension, SweepSpec, seeds_of
from bncore.spec.wording import nearest

Complete = Callable[[Any], Any]
"""What a document that names a data set or a checkpoint is with what those say; as it is where it names none."""


@dataclass(frozen=True)
class Point:
    """One experiment of a sweep."""

    number: int
    """Of the point: the same for all seeds of one."""
    at: dict[str, Any]
    """The values of the axes by their paths."""
    arm: str | None
    seed: int
    spec: ExperimentSpec


@dataclass(frozen=True)
class Trial:
    """A point that was proposed: of each arm they are counted from 0."""

    number: int
    arm: str | None
    values: dict[str, Any]


def trial_points(
    sweep: SweepSpec, trials: Sequence[Trial], complete: Complete = lambda document: document
) -> list[Point]:
    """The experiments of trials of a search, trial by trial. Raises `SpecError` with pointers into the sweep."""
    arms: list[str | None] = [*sweep.arms] or [None]
    found = _points(sweep, complete, [Place(one.values, {}, one.arm) for one in trials])
    return [
        Point(one.number * len(arms) + arms.index(one.arm), point.at, point.arm, point.seed, point.spec)
        for one, each in zip(trials, found, strict=True)
        for point in _with_seeds([each], seeds_of(sweep.seeds))
    ]


def corner_points(sweep: SweepSpec, complete: Complete = lambda document: document) -> list[Point]:
    """Each arm with each end of each range by itself, and with each value of a list: what is wrong of a space is found
    before anything is proposed. Raises `SpecError` with pointers into the sweep."""
    space = {} if sweep.search is None else sweep.search.space
    places = [
        Place({path: value}, {path: place} if isinstance(one, list) else {}, arm)
        for arm in sweep.arms or (None,)
        for path, one in space.items()
        for place, value in enumerate(corners(one))
    ]
    return _with_seeds(_points(sweep, complete, places), seeds_of(sweep.seeds)[:1])


def expand(sweep: SweepSpec, complete: Complete = lambda document: document) -> list[Point]:
    """All experiments, seed by seed: the points in the order of the axes, the last changing fastest, and the arms of
    one beside one another.

    Raises `SpecError` with pointers into the sweep.
    """
    points = _points(sweep, complete)
    if sweep.prune is not None:
        sweep.prune.require([(spec, named(place)) for place, spec in points])
    return _with_seeds(points, seeds_of(sweep.seeds))


def extended(
    sweep: SweepSpec,
    known: Sequence[int],
    wanted: Extension,
    complete: Complete = lambda document: document,
    pruned: Collection[int] = (),
) -> list[Point]:
    """The experiments of all points but `pruned` ones with more seeds; `known` are those that it has. Raises
    `SpecError`."""
    if isinstance(wanted.seeds, int):
        taken = set(known)
        seeds = list(itertools.islice((seed for seed in itertools.count() if seed not in taken), wanted.seeds))
    else:
        seeds = wanted.seeds
        for place, seed in enumerate(seeds):
            if seed in known or seed in seeds[:place]:
                raise SpecError([Fault(f"/seeds/{place}", "The sweep has this seed", "repeated_seed")])
    total = sweep.points * (len(known) + len(seeds))
    if total > MOST_EXPERIMENTS:
        detail = f"{total:,} experiments in all; a sweep has at most {MOST_EXPERIMENTS:,}"
        raise SpecError([Fault("/seeds", detail, "too_many_points")])
    return [one for one in _with_seeds(_points(sweep, complete), seeds) if one.number not in pruned]


def _with_seeds(points: Sequence[tuple[Place, ExperimentSpec]], seeds: Sequence[int]) -> list[Point]:
    # Whether a spec is valid does not depend on the seed, so the others need not be validated again.
    trains: dict[tuple[int, int], TrainSpec] = {}

    def seeded(spec: ExperimentSpec, seed: int) -> ExperimentSpec:
        if spec.train.seed == seed:
            return spec
        train = trains.get((id(spec.train), seed))
        if train is None:
            train = trains[id(spec.train), seed] = spec.train.model_copy(update={"seed": seed})
        return spec.model_copy(update={"train": train})

    return [
        Point(number, place.at, place.arm, seed, seeded(spec, seed))
        for seed in seeds
        for number, (place, spec) in enumerate(points)
    ]


def _points(
    sweep: SweepSpec, complete: Complete, places: Sequence[Place] | None = None
) -> list[tuple[Place, ExperimentSpec]]:
    bases = _bases(sweep, complete)
    order = sorted(sweep.varied, key=_depth)
    found: list[tuple[Place, ExperimentSpec]] = []
    reading = Reading()
    faults: dict[tuple[str, str], Fault] = {}
    faulty = 0
    for place in _places(sweep) if places is None else places:
        try:
            document = _with_values(*bases[place.arm], [(path, place.at[path]) for path in order if path in place.at])
            found.append((place, reading.load(complete(document))))
        except SpecError as error:
            # What is wrong of many points is said of the first of them.
            for fault, said in zip(error.faults, placed(error.faults, place, sweep), strict=True):
                faults.setdefault((said.pointer, fault.detail), said)
            faulty += 1
        if faulty >= MAX_FAULTS:
            break
    if faults:
        raise SpecError(list(faults.values()))
    if places is None:
        _require_different(sweep, found)
    return found


def _bases(sweep: SweepSpec, complete: Complete) -> dict[str | None, tuple[Any, Any]]:
    """By arm: the template with what the arm sets, as it is said and complete."""
    try:
        template = load_spec(complete(sweep.template)).model_dump(mode="json")
    except SpecError as error:
        raise SpecError([Fault(f"/template{one.pointer}", one.detail, one.code) for one in error.faults]) from None
    bases: dict[str | None, tuple[Any, Any]] = {None: (sweep.template, template)}
    if sweep.arms:
        bases = {name: _armed(sweep, template, name, complete) for name in sweep.arms}
    for name, (_, whole) in bases.items():
        _require_paths(sweep.varied, whole, sweep.above_varied, name)
    return bases


def _armed(sweep: SweepSpec, template: Any, name: str, complete: Complete) -> tuple[Any, Any]:
    patch = sorted(sweep.arms[name].items(), key=lambda item: _depth(item[0]))
    try:
        document = _with_values(sweep.template, template, patch)
        whole = load_spec(complete(document)).model_dump(mode="json")
    except SpecError as error:
        raise SpecError(list(placed(error.faults, Place({}, {}, name), sweep))) from None
    _require_paths(sweep.arms[name], whole, f"/arms{pointer_part(name)}", name)
    return document, whole


def _with_values(document: Any, whole: Any, values: Iterable[tuple[str, Any]]) -> Any:
    for path, value in values:
        try:
            document = put(document, whole, path, value)
        except NoWay:
            detail = "Cannot be set: what lies above it is no object or list there"
            raise SpecError([Fault(as_pointer(path), detail, "no_such_path")]) from None
    return document


def _depth(path: str) -> int:
    """What lies above is set first."""
    return path.count(".")


def _require_paths(paths: Iterable[str], whole: Any, above: str, arm: str | None) -> None:
    faults = []
    for path in paths:
        if has(whole, path):
            continue
        where = "the template" if arm is None else f"the arm {arm}"
        empty = null_on_the_way(whole, path)
        close = nearest(path, _paths(whole))
        if empty:
            cure = f"{empty} is null in {where}; give it a value there"
        else:
            cure = f"did you mean {close}?" if close else "paths are like optimizer.lr"
        faults.append(Fault(above + pointer_part(path), f"Is no path of {where}; {cure}", "no_such_path"))
    if faults:
        raise SpecError(faults)


def _paths(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{above}{key}"
            yield from _paths(inner, f"{above}{key}.")


def _places(sweep: SweepSpec) -> Iterator[Place]:
    groups = [list(group) for group in sweep.together]
    grouped = {path: group for group in groups for path in group}
    ways: list[list[str]] = []
    for path in sweep.axes:
        way = grouped.get(path, [path])
        if way not in ways:
            ways.append(way)
    values = {path: values_of(path, axis) for path, axis in sweep.axes.items()}
    for places in itertools.product(*(range(len(values[way[0]])) for way in ways)):
        chosen = {path: place for way, place in zip(ways, places, strict=True) for path in way}
        at = {path: values[path][chosen[path]] for path in sweep.axes}
        for arm in sweep.arms or (None,):
            yield Place(at, chosen, arm)


def _require_different(sweep: SweepSpec, points: Sequence[tuple[Place, ExperimentSpec]]) -> None:
    """Raises `SpecError` where two points are one spec, with what would tell them apart and does not."""
    seen: dict[str, Place] = {}
    faults: dict[str, Fault] = {}
    writing = Writing()
    for place, spec in points:
        first = seen.setdefault(writing.canonical(spec), place)
        if first is not place:
            fault = _same(sweep, first, place)
            faults.setdefault(fault.pointer, fault)
    if faults:
        raise SpecError(list(faults.values()))


def _same(sweep: SweepSpec, first: Place, second: Place) -> Fault:
    moved = [path for path in first.places if first.places[path] != second.places[path]]
    if moved:
        path = moved[0]
        listed = f"/{second.places[path]}" if isinstance(sweep.axes[path], list) else ""
        beside = "" if first.arm == second.arm else f" of arm {first.arm}"
        detail = f"Makes the same spec as value {first.places[path]}{beside}, counted from 0; leave one of them out"
        return Fault(f"/axes{pointer_part(path)}{listed}", detail, "same_spec")
    detail = f"Differs in nothing from the arm {first.arm}; change it, or leave it out"
    return Fault(f"/arms{pointer_part(second.arm or '')}", detail, "same_spec")
