"""Experiments that differ in nothing but the seed are one arm, as in a comparison; arms are called by what tells them
apart.

Invariant: two runs with the same seed are no two observations: of each seed an arm has one run, the one that a
comparison has, too: the newest that has ended.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.comparison.differing import as_text, names_a_norm, where
from bncore.comparison.meant import norm_kinds, told_apart
from bncore.figures.results import Results

Path = tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """Runs of one spec with different seeds."""

    label: str
    """Unlike that of any other arm."""
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class Arms:
    """In the order in which their first experiments stand."""

    said: str
    """What the labels are values of; empty where there is one arm."""
    arms: tuple[Arm, ...]

    @property
    def labels(self) -> list[str]:
        return [arm.label for arm in self.arms]


def arms_of_results(results: Results) -> Arms:
    """The arms of these experiments."""
    unfinished = {experiment for experiment, result in results.items() if not result.ended}
    return arms_of({experiment: result.spec for experiment, result in results.items()}, unfinished)


def arms_of(specs: Mapping[str, Mapping[str, Any]], unfinished: Collection[str] = ()) -> Arms:
    """The arms of some experiments, by their ids, which sort by the time they were made; a spec with a seed."""
    wheres = told_apart(list(specs.values())).wheres
    groups: dict[str, dict[str, str]] = {}
    leaves: dict[str, dict[Path, str]] = {}
    for (experiment, spec), at in zip(specs.items(), wheres, strict=True):
        whole = as_text(at)
        of_seeds, seed = groups.setdefault(whole, {}), as_text(where(spec, ["train.seed"]))
        both = (experiment, of_seeds.get(seed, experiment))
        of_seeds[seed] = max(both, key=lambda one: (one not in unfinished, one))
        leaves[whole] = {leaf: text for path, value in at.items() for leaf, text in _leaves(value, (*path.split("."),))}
    said, labels = _labelled(_telling(list(leaves.values())), [leaves[whole] for whole in groups])
    if len(groups) == 1:
        labels = [_alone(next(iter(specs.values())))]
    members = [tuple(group.values()) for group in groups.values()]
    return Arms(said, tuple(Arm(*one) for one in zip(labels, members, strict=True)))


def _leaves(value: Any, path: Path) -> Iterable[tuple[Path, str]]:
    """Every number, word and list of what a spec says at a path, by where it stands, as text."""
    if not isinstance(value, Mapping):
        yield path, _worded(value)
        return
    for name, inner in value.items():
        yield from _leaves(inner, (*path, str(name)))


def _worded(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            short = f"{value:.12g}"
            # Arms are what these words tell apart.
            return short if float(short) == value else repr(value)
        case list() if all(isinstance(part, int | float) for part in value):
            return "-".join(map(_worded, value))
        case str():
            return value
        case _:
            return json.dumps(value, sort_keys=True)


def _telling(specs: Sequence[Mapping[Path, str]]) -> list[Path]:
    """As few fields as tell these specs apart, found greedily: kinds first, then what stands least deep."""
    every = dict.fromkeys(path for spec in specs for path in spec)
    differing = [path for path in every if len({spec.get(path) for spec in specs}) > 1]
    chosen: list[Path] = []
    told = 1
    for path in sorted(differing, key=lambda path: (path[-1] != "kind", len(path))):
        apart = len({tuple(spec.get(one) for one in (*chosen, path)) for spec in specs})
        if apart > told:
            chosen.append(path)
            told = apart
    return chosen


def _labelled(telling: Sequence[Path], specs: Sequence[Mapping[Path, str]]) -> tuple[str, list[str]]:
    short = [path[-2] if path[-1] == "kind" and len(path) > 1 else path[-1] for path in telling]
    names = [name if short.count(name) == 1 else ".".join(path) for name, path in zip(short, telling, strict=True)]
    plain = [", ".join(spec.get(path, "-") for path in telling) for spec in specs]
    labels = [", ".join(_said(spec, path, telling) for path in telling) for spec in specs]
    return ", ".join(names), labels if len(set(labels)) == len(labels) else plain


def _said(spec: Mapping[Path, str], path: Path, telling: Sequence[Path]) -> str:
    """What it has at a path; where others have a norm and it has none there, the first that it has elsewhere."""
    if path in spec or not names_a_norm(".".join(path)):
        return spec.get(path, "-")
    elsewhere = (kind for at, kind in spec.items() if at not in telling and names_a_norm(".".join(at)))
    return next(elsewhere, "-")


def _alone(spec: Mapping[str, Any]) -> str:
    """The one arm there is, in a few words; none where nothing is known of it."""
    network = spec.get("network") or {}
    words = [str(network["kind"])] if "kind" in network else []
    return str(spec.get("name") or "") or ", ".join([*words, *norm_kinds(spec)])
