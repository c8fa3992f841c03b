"""How large an effect has to be, stated before anything is run, and what an interval says of it.

Invariant: a conclusion is drawn only from the side of a value that is known. Where a seed gives only a lower bound on
a ratio of times, nothing is concluded from the ratio being small, and nothing from its being large where it gives an
upper bound.
"""

from dataclasses import dataclass
from typing import Literal

from bncore.studies.estimand import Bounds

Outcome = Literal["holds", "does_not_hold", "inconclusive"]
Label = Literal["contradicted", "equivalent", "control_failed"]


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Margin:
    """What the claim says of the effect.

    - `superiority`: it is larger than `value` (delta).
    - `non_inferiority`: it is larger than -`value`: at most that much is lost.
    - `equality`: it is within `value` (epsilon) of `around`.
    """

    kind: Literal["superiority", "non_inferiority", "equality"]
    value: float
    around: float = 0.0

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError("the smallest effect worth calling one has to be positive")

    @property
    def threshold(self) -> float:
        """What the effect has to exceed; for `equality` half the width of what it has to stay in."""
        return -self.value if self.kind == "non_inferiority" else self.value

    @property
    def equal(self) -> Interval:
        """Where effects lie that make no difference."""
        return Interval(self.around - self.value, self.around + self.value)


def decided(margin: Margin, interval: Interval) -> Outcome:
    """The interval on one side of the margin decides; one that straddles it does not.

    The two one-sided tests of equality (Schuirmann 1987, doi 10.1007/BF01068419) are here at half the level of the
    interval each, 2.5 %, like every other conclusion: the interval that is shown is the one that decides.
    """
    if margin.kind == "equality":
        if within(interval, margin.equal):
            return "holds"
        outside = interval.low > margin.equal.high or interval.high < margin.equal.low
        return "does_not_hold" if outside else "inconclusive"
    if interval.low > margin.threshold:
        return "holds"
    return "does_not_hold" if interval.high < margin.threshold else "inconclusive"


def one_sided(outcome: Outcome, bounds: Bounds | None) -> Outcome:
    """The outcome, unless it rests on the wrong side of a bound."""
    if bounds and ((outcome == "holds" and bounds.upper) or (outcome == "does_not_hold" and bounds.lower)):
        return "inconclusive"
    return outcome


def label(margin: Margin, outcome: Outcome, interval: Interval) -> Label | None:
    """`contradicted`: the effect is the other way round. `equivalent`: there is none that matters."""
    if margin.kind == "equality":
        return "equivalent" if outcome == "holds" else None
    if outcome != "does_not_hold":
        return None
    if interval.high < 0:
        return "contradicted"
    return "equivalent" if interval.low > -margin.value else None


def within(interval: Interval, other: Interval) -> bool:
    return other.low < interval.low and interval.high < other.high
