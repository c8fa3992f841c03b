"""How often a verdict on counted shares is wrong: the part of `bench.coverage` for `bncore.studies.fractions`.

Simulated networks train or do not, with known shares at seven settings of two arms, and go through the code that judges
real ones. The hard cases are those at a limit: where every share is at its limit the claim is true, and to say that it
does not hold is wrong; where one share is at its limit, all others being beyond doubt, it is as good as false, and to
say that it holds is wrong. Beside it stands the rule until 2026-11-30, which joined fourteen intervals as if they were
one, took shares of the seeds for shares of all, and paid for no second look.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bncore.studies import fractions
from bncore.studies.looks import Looks
from bncore.studies.verdict import Fractions, Words

SETTINGS = 7
WORDS = Words("Do they train?", "share of networks", "treatment", "baseline")
HIGH, LOW = 0.9, 0.1
SIZES = (10, 20, 40, 100)
"""Seeds at the first look; an extended study has twice as many in the end."""


@dataclass(frozen=True)
class Truth:
    """Shares of all networks that train, by setting."""

    name: str
    treatment: tuple[float, ...]
    baseline: tuple[float, ...]
    wrong: str | None
    """What must not be said; None: what is said is right."""


_SURE, _NEVER = (1.0,) * SETTINGS, (0.0,) * SETTINGS
TRUTHS = (
    Truth("all at their limits", (HIGH,) * SETTINGS, (LOW,) * SETTINGS, "does_not_hold"),
    Truth("one of treatment at its limit", (HIGH, *_SURE[1:]), _NEVER, "holds"),
    Truth("one of baseline at its limit", _SURE, (LOW, *_NEVER[1:]), "holds"),
    Truth("true beyond doubt", _SURE, _NEVER, None),
    Truth("false at one setting", (0.3, *_SURE[1:]), _NEVER, None),
)
Rule = Callable[[Fractions, Looks], str]


def now(asked: Fractions, looks: Looks) -> str:
    """The rule of `bncore.studies.fractions`."""
    return fractions.decided(asked, looks)[0]


def before(asked: Fractions, looks: Looks) -> str:
    """Shares of the seeds, Fisher's p < .01, and 95 % intervals each by itself, whatever looks were taken."""
    del looks
    trains = all(k / n >= asked.high for k, n in asked.treatment.values())
    fails = all(k / n <= asked.low for k, n in asked.baseline.values())
    if trains and fails and fractions.fisher(asked) < 0.01:
        return "holds"
    refuted = any(stats.beta.ppf(0.975, k + 1, n - k) < asked.high for k, n in asked.treatment.values() if k < n)
    refuted |= any(stats.beta.ppf(0.025, k, n - k + 1) > asked.low for k, n in asked.baseline.values() if k)
    return "does_not_hold" if refuted else "inconclusive"


RULES: dict[str, Rule] = {"before": before, "now": now}


def said(truth: Truth, rule: Rule, n: int, studies: int, random: np.random.Generator, **how: bool) -> dict[str, float]:
    """Shares of studies in which each outcome came at any look.

    Args:
        how: `extended`: always, to twice as many; `shared`: a seed that trains at a setting does at all of a larger
            share, instead of by lot.
    """
    seeds, found = 2 * n if how.get("extended") else n, {"holds": 0, "does_not_hold": 0}
    for _ in range(studies):
        trains = [_trained(np.array(shares), seeds, random, how.get("shared", False)) for shares in _arms(truth)]
        looks, outcomes = Looks(seeds), set()
        for size in dict.fromkeys((n, seeds)):
            looks = looks.at(size)
            outcomes.add(rule(_counted(*(each[:size] for each in trains)), looks))
        for outcome in outcomes & found.keys():
            found[outcome] += 1
    return {outcome: count / studies for outcome, count in found.items()}


def lines(studies: int, seed: int) -> Iterator[str]:
    """What is printed: of each truth, rule and size."""
    yield f"{'counted shares':30} {'rule':7} {'looks':9} {'n':>4} {'holds':>7} {'does not':>9}"
    for truth in TRUTHS:
        for rule in RULES:
            for extended in (False, True):
                for n in SIZES:
                    random = np.random.default_rng((seed, n, *map(ord, truth.name)))
                    found = said(truth, RULES[rule], n, studies, random, extended=extended)
                    name, looks = truth.name, "extended" if extended else "one look"
                    shown = " ".join(f"{found[one]:7.1%}{'*' if one == truth.wrong else ' '}" for one in found)
                    yield f"{name:30} {rule:7} {looks:9} {n:4} {shown}"
    yield "* is wrong there"


def _arms(truth: Truth) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return truth.treatment, truth.baseline


def _trained(shares: np.ndarray, seeds: int, random: np.random.Generator, is_shared: bool) -> np.ndarray:
    """bool, (seed, setting)."""
    drawn = random.random((seeds, 1 if is_shared else len(shares)))
    return np.asarray(drawn < shares)


def _counted(treatment: np.ndarray, baseline: np.ndarray) -> Fractions:
    ours, theirs = (
        {f"setting {place}": (int(count), len(each)) for place, count in enumerate(each.sum(0))}
        for each in (treatment, baseline)
    )
    return Fractions("trains", WORDS, ours, theirs)
