"""How often a study's interval covers the truth, and how often `holds` comes out where there is nothing.

    python -m bench.coverage [--studies 1000] [--seed 1]

Simulated studies with a known truth go through the code that judges real ones: rows, effects, looks, interval,
decision. Printed per estimand, spread between seeds and number of seeds, in percent: how often the interval covers;
how often `holds` comes out with no effect; how often with an effect of exactly delta (for equality: of epsilon),
where it is wrong to say so either way. Then the same for all looks together, where a study is extended: always; by as
many seeds as `extra_seeds` says, while it is inconclusive; by one seed at a time until it holds. At last verdicts on
shares that are counted at several settings: `bench.coverage_of_shares`.

Monte Carlo error: 2 standard errors of 95 % are 1.4 points with 1,000 studies.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from bench import coverage_of_shares
from bncore.studies.estimand import Effects, Estimand, effects
from bncore.studies.intervals import t_interval
from bncore.studies.looks import Looks, level
from bncore.studies.margin import Interval, Margin, decided, one_sided
from bncore.studies.power import extra_seeds
from bncore.studies.results import Metric, Place, Results, Run

SEEDS = (6, 10, 20)
TREATMENT, BASELINE = Place("treatment"), Place("baseline")
Draw = Callable[[np.random.Generator, int], np.ndarray]

SPREADS: dict[str, Draw] = {
    "normal": lambda random, n: random.standard_normal(n),
    "t with 3 df": lambda random, n: random.standard_t(3, n) / math.sqrt(3),
    "Laplace": lambda random, n: random.laplace(scale=math.sqrt(0.5), size=n),
    "slanted up (exponential)": lambda random, n: random.exponential(size=n) - 1,
    "slanted down": lambda random, n: 1 - random.exponential(size=n),
    "1 of 20 far out": lambda random, n: random.standard_normal(n) * np.where(random.random(n) < 0.05, 8, 1) / 2.04,
}
"""Of the treatment's noise between seeds, of mean 0 and about variance 1; the baseline's is normal, half as wide, and
both share the rest: tails and slant are those of the effects, too."""
SD = 0.01
"""Of the treatment, in accuracy."""


@dataclass(frozen=True)
class Kind:
    """An estimand, and studies of it with a given effect."""

    name: str
    estimand: Estimand
    margin: Margin
    runs: Callable[[np.random.Generator, Draw, int, float], Results]
    """Of n seeds whose arms differ by an effect, in the units of the estimand."""
    truth: Callable[[float], float]
    """What is estimated, of that effect."""
    spreads: tuple[str, ...] = tuple(SPREADS)


def differing(random: np.random.Generator, draw: Draw, n: int, effect: float) -> Results:
    """Accuracies around 90 %, with a part that both arms of a seed share."""
    shared = 0.9 + 0.02 * random.standard_normal(n)
    theirs = shared + 0.5 * SD * random.standard_normal(n)
    return _paired("score", shared + effect + SD * draw(random, n), theirs)


def counted(random: np.random.Generator, draw: Draw, n: int, effect: float) -> Results:
    """Accuracies as shares of 597 test images."""
    shared = 0.95 + 0.5 * SD * draw(random, n).clip(-4, 4)
    ours, theirs = (random.binomial(597, np.clip(p, 0, 1)) / 597 for p in (shared + effect, shared))
    return _paired("score", ours, theirs)


def scaling(random: np.random.Generator, draw: Draw, n: int, effect: float) -> Results:
    """Positive numbers whose logarithms differ."""
    shared = random.standard_normal(n)
    ours, theirs = shared + effect + 0.3 * draw(random, n), shared + 0.15 * random.standard_normal(n)
    return _paired("score", np.exp(ours), np.exp(theirs))


BUDGET, TYPICAL, WIDTH = 600.0, 400.0, 0.5


def reaching(random: np.random.Generator, _draw: Draw, n: int, effect: float) -> Results:
    """Lognormal times around 400 of the baseline, of which a fifth lie beyond the budget of 600."""
    shared = 0.3 * random.standard_normal(n)
    ours, theirs = (
        TYPICAL * np.exp(shared + math.sqrt(WIDTH**2 - 0.09) * random.standard_normal(n) - shift)
        for shift in (effect, 0)
    )
    return _paired("score", ours, theirs)


def restricted(effect: float) -> float:
    """The mean of ln(min(X, T) / min(Y, T)) of lognormal times, by the moments of a censored normal."""

    def mean(mu: float) -> float:
        z = (math.log(BUDGET) - mu) / WIDTH
        below = float(stats.norm.cdf(z))
        return mu * below - WIDTH * float(stats.norm.pdf(z)) + math.log(BUDGET) * (1 - below)

    return mean(math.log(TYPICAL)) - mean(math.log(TYPICAL) - effect)


def _paired(key: str, ours: np.ndarray, theirs: np.ndarray) -> Results:
    arms = ((TREATMENT.arm, ours), (BASELINE.arm, theirs))
    return Results(tuple(Run(arm, seed, {key: float(x)}) for arm, each in arms for seed, x in enumerate(each)))


SCORE = Metric("score")
TIMES = Estimand(Metric("score", higher_is_better=False), "log_time_ratio", budget=BUDGET)
KINDS = (
    Kind("difference of means", Estimand(SCORE), Margin("superiority", 0.01), differing, float),
    Kind("difference, 597 images", Estimand(SCORE), Margin("superiority", 0.01), counted, float, ("normal",)),
    Kind("log ratio", Estimand(SCORE, "log_ratio"), Margin("superiority", math.log(1.5)), scaling, float),
    Kind("log ratio of times", TIMES, Margin("superiority", math.log(1.5)), reaching, restricted, ("normal",)),
    Kind("equality", Estimand(SCORE), Margin("equality", 0.01), differing, float),
)


@dataclass(frozen=True)
class Rates:
    """Shares of studies."""

    covers: float
    holds_without: float
    """`holds` with no effect."""
    holds_at_margin: float
    """`holds` with an effect of the margin."""
    not_at_margin: float
    """`does_not_hold` with an effect of the margin."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--studies", type=int, default=1000)
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    heads = f"{'covers':>7} {'holds, none':>12} {'holds, edge':>12}"
    print(f"{'one look':24} {'spread':24} {'n':>3} {heads} {'not, edge':>10}")
    for kind, spread, n in _rows():
        random = np.random.default_rng((given.seed, n, *map(ord, kind.name + spread)))
        found = rates(kind, spread, n, given.studies, random)
        print(f"{kind.name:24} {spread:24} {n:3}", _shown(kind, found), flush=True)
    print("\nlower ends of intervals of censored ratios that lie below the ratio of the times themselves")
    for effect in (0.0, math.log(1.5), math.log(4)):
        print(f"  ratio {math.exp(effect):.1f}:", _below(effect, given.studies, np.random.default_rng(given.seed)))
    print(f"\n{'extended, all looks':24} {'how':24} {'n':>7} {heads}")
    for kind, (how, then), (first, most) in _extended_rows():
        random = np.random.default_rng((given.seed, most, *map(ord, kind.name + how)))
        share = _looked(kind, then, first, most, given.studies, random)
        print(f"{kind.name:24} {how:24} {first:3}-{most:3}", share, flush=True)
    for line in coverage_of_shares.lines(given.studies, given.seed):
        print(line, flush=True)


def _rows() -> Iterator[tuple[Kind, str, int]]:
    return ((kind, spread, n) for kind in KINDS for spread in kind.spreads for n in SEEDS)


def rates(kind: Kind, spread: str, n: int, studies: int, random: np.random.Generator) -> Rates:
    """Of studies that are looked at once: as many with no effect as with one at the margin."""
    covered, holds, at_edge, against = 0, 0, 0, 0
    draw, edge = SPREADS[spread], _edge(kind)
    for _ in range(studies):
        interval, outcome = _judged(kind, kind.runs(random, draw, n, 0.0), Looks(n, (n,)))
        covered += interval.low <= kind.truth(0.0) <= interval.high
        holds += outcome == "holds"
        interval, outcome = _judged(kind, kind.runs(random, draw, n, edge), Looks(n, (n,)))
        covered += interval.low <= kind.truth(edge) <= interval.high
        at_edge += outcome == "holds"
        against += outcome == "does_not_hold"
    return Rates(covered / 2 / studies, holds / studies, at_edge / studies, against / studies)


def _shown(kind: Kind, found: Rates) -> str:
    # Equality is true with no effect: how often that is found is no error.
    none = f"({found.holds_without:10.1%})" if kind.margin.kind == "equality" else f"{found.holds_without:12.1%}"
    return f"{found.covers:7.1%} {none} {found.holds_at_margin:12.1%} {found.not_at_margin:10.1%}"


def _below(effect: float, studies: int, random: np.random.Generator) -> str:
    """Whoever was censored: where only the baseline was, what is estimated is a lower bound."""
    kind = KINDS[3]
    draw, looks = SPREADS["normal"], Looks(10, (10,))
    lows = np.array([_judged(kind, kind.runs(random, draw, 10, effect), looks)[0].low for _ in range(studies)])
    return f"{np.mean(lows <= effect):.1%} (restricted to the budget, the ratio is {math.exp(restricted(effect)):.2f})"


def _edge(kind: Kind) -> float:
    """The effect at which what is estimated equals the margin; a ratio of times may not get there within its budget."""
    low, high = 0.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kind.truth(middle) < kind.margin.value else (low, middle)
    return low


def _judged(kind: Kind, found: Results, looks: Looks) -> tuple[Interval, str]:
    return _concluded(kind, effects(kind.estimand, found, TREATMENT, BASELINE), looks)


def _concluded(kind: Kind, each: Effects, looks: Looks) -> tuple[Interval, str]:
    interval = t_interval(each.values, level(looks))
    return interval, one_sided(decided(kind.margin, interval), kind.margin, interval, each.bounds)


@dataclass(frozen=True)
class Seen:
    """What whoever extends a study knows."""

    values: tuple[float, ...]
    margin: Margin
    looks: Looks
    outcome: str


def always(seen: Seen) -> int:
    return seen.looks.most - len(seen.values)


def as_told(seen: Seen) -> int:
    return (extra_seeds(seen.values, seen.margin, seen.looks) or 0) if seen.outcome == "inconclusive" else 0


def until_it_holds(seen: Seen) -> int:
    return min(1, always(seen)) if seen.outcome != "holds" else 0


Next = Callable[[Seen], int]
"""How many seeds more; 0 ends the study."""
HOWS: dict[str, Next] = {"always": always, "as extra_seeds says": as_told, "by one, until it holds": until_it_holds}


def _extended_rows() -> Iterator[tuple[Kind, tuple[str, Next], tuple[int, int]]]:
    return ((kind, how, span) for kind in KINDS for how in HOWS.items() for span in ((6, 12), (10, 20), (10, 40)))


def _looked(kind: Kind, then: Next, first: int, most: int, studies: int, random: np.random.Generator) -> str:
    """All looks of a study cover, or it does not; `holds` at any of them is a `holds`."""
    shares = []
    covered = 0
    for effect in (0.0, _edge(kind)):
        said = 0
        for _ in range(studies):
            whole = kind.runs(random, SPREADS["normal"], most, effect)
            covers, holds = _followed(kind, whole, then, first, most, kind.truth(effect))
            covered += covers
            said += holds
        shares.append(said / studies)
    none = f"({shares[0]:10.1%})" if kind.margin.kind == "equality" else f"{shares[0]:12.1%}"
    return f"{covered / 2 / studies:7.1%} {none} {shares[1]:12.1%}"


def _followed(kind: Kind, whole: Results, then: Next, first: int, most: int, truth: float) -> tuple[bool, bool]:
    each = effects(kind.estimand, whole, TREATMENT, BASELINE)
    looks, covers, holds, n = Looks(most), True, False, first
    while True:
        looks = looks.at(n)
        interval, outcome = _concluded(kind, each if n == most else _first(kind, whole, each, n), looks)
        covers &= interval.low <= truth <= interval.high
        holds |= outcome == "holds"
        more = then(Seen(each.values[:n], kind.margin, looks, outcome))
        if not more:
            return covers, holds
        n += more


def _first(kind: Kind, whole: Results, each: Effects, n: int) -> Effects:
    """Of the first n seeds; where nothing is bounded, without a way through the rows again."""
    if each.bounds is None:
        return replace(each, seeds=each.seeds[:n], values=each.values[:n])
    return effects(kind.estimand, Results(tuple(run for run in whole.runs if run.seed < n)), TREATMENT, BASELINE)


if __name__ == "__main__":
    main()
