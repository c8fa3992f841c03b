"""What the specs of a study say and may not mean: no guard, and no verdict hangs on it; a reader has to know it.

Invariant: one of each kind, with the first place that it is of, however many places and seeds there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bncore.spec.cautions import cautions
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, SpecError
from bncore.spec.parse import load_spec
from bncore.studies.claim import Batch, Design, at_setting, experiments

_OF_COST = frozenset({"costly_diagnostic", "much_memory"})
"""Codes of what a run takes: it says nothing of what comes out."""
_SHARED = frozenset({"dead_bias"})
"""Codes of what arms have so that they share every weight: designs say all of a spec, also what nobody asked for."""
_OF_THE_END = frozenset({"cold_statistics"})
"""Codes of what a network is like once it is trained, of which a look at its initialization sees nothing."""


@dataclass(frozen=True)
class Tried:
    """An arm at a setting: a place that is trained with some seeds."""

    arm: str
    setting: Mapping[str, Any]
    spec: ExperimentSpec


@dataclass(frozen=True)
class Cautioned:
    """A caution, the first place that it is of, and of how many it is."""

    fault: Fault
    tried: Tried
    places: int
    of: int
    """Places in all."""


def places_tried(design: Design, batch: Batch) -> list[Tried]:
    """Each place of a batch once, with the spec of its first seed. Raises `SpecError`."""
    one_seed = Batch(batch.stage, batch.places, batch.seeds[:1])
    return [Tried(one.place.arm, dict(one.place.setting), load_spec(one.spec)) for one in experiments(design, one_seed)]


def beside_the_point(measures: Iterable[Mapping[str, Any]], evaluations: Mapping[str, Any]) -> frozenset[str]:
    """Codes of what has no bearing on a study with these `measures` and `evaluations`, as its design has them."""
    at = {one.get("step") for one in measures}
    return _SHARED | _OF_THE_END if at == {0} and not evaluations else _SHARED


def cautioned(
    places: Iterable[Tried],
    say: Callable[[ExperimentSpec], Iterable[Fault]] = cautions,
    but: frozenset[str] = frozenset(),
) -> list[Cautioned]:
    """What there is to `say` of the specs, one of each pointer and code, and nothing of some codes."""
    tried = list(places)
    found: dict[tuple[str, str], tuple[Fault, Tried, int]] = {}
    for each in tried:
        for fault in (one for one in say(each.spec) if one.code not in but):
            first, at, count = found.get((fault.pointer, fault.code), (fault, each, 0))
            found[fault.pointer, fault.code] = first, at, count + 1
    return [Cautioned(first, at, count, len(tried)) for first, at, count in found.values()]


def documents(
    specs: Mapping[str, Mapping[str, Any]], runs: Iterable[Mapping[str, Any]], but: frozenset[str]
) -> list[dict[str, Any]]:
    """The same of stored runs, as plain JSON; what is about their cost alone is left out.

    Args:
        specs: of each arm, as a setting changes it.
        runs: with `arm` and `setting`; what is no spec any more is left out.
        but: codes that are left out too.
    """
    return [
        {
            **{key: getattr(one.fault, key) for key in ("pointer", "detail", "code")},
            "arm": one.tried.arm,
            "setting": dict(one.tried.setting),
            "places": one.places,
            "of": one.of,
        }
        for one in cautioned(_tried(specs, runs), but=_OF_COST | but)
    ]


def _tried(specs: Mapping[str, Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> Iterator[Tried]:
    known = set()
    for run in runs:
        arm, setting = str(run["arm"]), dict(run.get("setting") or {})
        place = (arm, *sorted((path, repr(value)) for path, value in setting.items()))
        if place in known or arm not in specs:
            continue
        known.add(place)
        try:
            yield Tried(arm, setting, load_spec(at_setting(specs[arm], setting)))
        except SpecError:
            continue
