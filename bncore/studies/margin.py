"""How large an effect has to be, stated before anything is run, and what an interval says of it.

Invariant: a conclusion is drawn only from the side of a value that is known. Where a seed gives only a lower bound on
a ratio of times, nothing is concluded from the ratio being small, and nothing from its being large where it gives an
upper bound. A seed of which nothing is known counts as no effect, and so speaks only against what lies beyond that.
"""

from dataclasses import dataclass
from typing import Literal

from bncore.studies.estimand import Bounds

Outcome = Literal["holds", "does_not_hold", "inconclusive"]
Label = Literal["contradicted", "equivalent", "control_failed"]
Side = Literal["low", "high"]
_ROUNDING = 1e-9
"""Of a margin: what is nearer to its edge is at it. Floats .01 apart on paper, such as .96 and .95, are not."""


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

    def past(self, edge: float, value: float) -> float:
        """How far a value is above an edge of it, below where negative; 0 where that may be rounding."""
        distance = value - edge
        return distance if abs(distance) > _ROUNDING * max(self.value, abs(edge)) else 0.0


def decided(margin: Margin, interval: Interval) -> Outcome:
    """The interval on one side of the margin decides; one that straddles it does not.

    The two one-sided tests of equality (Schuirmann 1987, doi 10.1007/BF01068419) are here at half the level of the
    interval each, 2.5 %, like every other conclusion: the interval that is shown is the one that decides.
    """
    if margin.kind == "equality":
        inside = margin.past(margin.equal.low, interval.low) > 0 and margin.past(margin.equal.high, interval.high) < 0
        outside = margin.past(margin.equal.high, interval.low) > 0 or margin.past(margin.equal.low, interval.high) < 0
        return "holds" if inside else "does_not_hold" if outside else "inconclusive"
    if margin.past(margin.threshold, interval.low) > 0:
        return "holds"
    return "does_not_hold" if margin.past(margin.threshold, interval.high) < 0 else "inconclusive"


def one_sided(outcome: Outcome, margin: Margin, interval: Interval, bounds: Bounds | None) -> Outcome:
    """The outcome, unless it rests on a side of the effect that is not known."""
    return "inconclusive" if unknown_sides(outcome, margin, interval, bounds) else outcome


def unknown_sides(outcome: Outcome, margin: Margin, interval: Interval, bounds: Bounds | None) -> tuple[Side, ...]:
    """The ends of the interval that the outcome rests on although the effect may lie beyond them."""
    return tuple(side for side in _rests_on(outcome, margin, interval) if not _is_known(side, interval, bounds))


def label(margin: Margin, outcome: Outcome, interval: Interval, bounds: Bounds | None = None) -> Label | None:
    """`contradicted`: the effect is the other way round. `equivalent`: there is none that matters."""
    if margin.kind == "equality":
        return "equivalent" if outcome == "holds" else None
    if outcome != "does_not_hold":
        return None
    if margin.past(0.0, interval.high) < 0:
        return "contradicted"
    is_small = margin.past(-margin.value, interval.low) > 0 and _is_known("low", interval, bounds)
    return "equivalent" if is_small else None


def _rests_on(outcome: Outcome, margin: Margin, interval: Interval) -> tuple[Side, ...]:
    if outcome == "inconclusive":
        return ()
    if margin.kind != "equality":
        return ("low",) if outcome == "holds" else ("high",)
    if outcome == "holds":
        return ("low", "high")
    return ("low",) if interval.low > margin.equal.high else ("high",)


def _is_known(side: Side, interval: Interval, bounds: Bounds | None) -> bool:
    """Whether the effect is not beyond that end; what nothing is known of counts as 0, which pulls it there or not."""
    if bounds is None:
        return True
    if side == "low":
        return not bounds.upper and (not bounds.neither or interval.low > 0)
    return not bounds.lower and (not bounds.neither or interval.high < 0)
