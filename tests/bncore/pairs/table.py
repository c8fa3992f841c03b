"""Which pairs of features there are, and which of them `docs/norms/pairs.yaml` says to be refused."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bncore.pairs.subjects import Subject

_TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "docs" / "norms" / "pairs.yaml").read_text())
FEATURES: list[str] = list(_TABLE["features"])
COMPILERS = ("compile", "export")
"""What takes a second a program, and not a few milliseconds."""
QUICK = [one for one in FEATURES if one not in (*COMPILERS, "ddp")]
EVENTS = ("freeze", "recalibrate", "convert", "deepcopy", "pickle")
"""What happens to a model, so that the order of two of them is another pair."""
Features = tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    when: Features
    error: str
    """What the message says, among others."""
    layers: tuple[str, ...] | None = None
    """None: all layers."""
    by: str = "ours"
    ordered: bool = False
    instead: str = ""

    def holds(self, subject: Subject, features: Sequence[str]) -> bool:
        """Whether it is to be expected."""
        if self.layers is not None and not {subject.kind, subject.name} & {*self.layers}:
            return False
        found = [one for one in features if one in self.when]
        return found == [*self.when] if self.ordered else {*found} == {*self.when}


REFUSALS = [
    Refusal(**{key: tuple(value) if isinstance(value, list) else value for key, value in one.items()})
    for one in _TABLE["refused"]
] + [
    # A class that the tests derive, to have a mask with every batch.
    Refusal(("convert",), "changes what the layer it derives from does", ("masked_batch_norm, padded",))
]


def refusals(subject: Subject, features: Sequence[str]) -> list[Refusal]:
    """Those to be expected; any one of them is as good as another."""
    return [one for one in REFUSALS if one.holds(subject, features)]


def pairs(features: Iterable[str]) -> list[Features]:
    """Each feature by itself and with each other one, in both orders where that can matter."""
    found: list[Features] = [(one,) for one in features]
    for first, second in itertools.combinations([one for (one,) in found], 2):
        found.append((first, second))
        if first in EVENTS and second in EVENTS:
            found.append((second, first))
    return found


def programs(subject: Subject, features: Iterable[str]) -> list[Features]:
    """A few sets of features, of which every pair that is not refused is in one.

    Where all of a set together are right, so is each pair: after a conversion, and with a frozen layer, less of what
    else happens shows, so those are paired by themselves.
    """
    features = list(features)
    missing = {pair for pair in pairs(features) if not refusals(subject, pair)}
    found = []
    while missing:
        chosen: Features = max(sorted(missing), key=len)
        while True:
            grown = [
                (*chosen[:at], one, *chosen[at:]) for one in features if one not in chosen for at in {0, len(chosen)}
            ]
            allowed = [one for one in grown if not refusals(subject, one)]
            best = max(allowed, key=lambda one: len(_shown(one) & missing), default=chosen)
            if len(_shown(best) & missing) == len(_shown(chosen) & missing):
                break
            chosen = best
        found.append(chosen)
        missing -= _shown(chosen)
    return found


def _shown(features: Features) -> set[Features]:
    """The pairs in a set of features that a fault of theirs would show in."""
    order = {one: place for place, one in enumerate(FEATURES)}
    hiding = {"freeze", "convert"} & {*features}
    found: set[Features] = {(one,) for one in features}
    for first, second in itertools.combinations(features, 2):
        both = first in EVENTS and second in EVENTS
        if both and hiding - {first, second}:
            continue
        found.add((first, second) if both else tuple(sorted((first, second), key=order.__getitem__)))
    return found
