"""C2, C3 and C4 with made-up runs whose truth is known: who works how far, and what only a bound says."""

import math
from dataclasses import replace

import pytest

from bncore.studies.claims import CLAIMS
from bncore.studies.reports import Report, answer
from bncore.studies.results import Place, Results
from bncore.studies.working import Extent, largest, width, working
from tests.bncore.studies.made_up import DIVERGED, MISSING, Truth, about, outcomes, reported, same_effect

ACCURACY, CHOSEN = "test/accuracy", "validation/accuracy"
PROBE = "diagnostics/step_probe/worst_ratio@0"
LR, FACTOR = "optimizer.lr", "network.init_scale"


def trained(accuracy: float, place: Place, seed: int) -> dict[str, float | None]:
    return {ACCURACY: about(accuracy, place, seed), CHOSEN: about(accuracy, place, seed, CHOSEN)}


def test_what_works_is_near_the_best_and_has_not_diverged() -> None:
    assert working({0.1: 0.92, 0.3: 0.95, 1.0: 0.919, 3.0: None}) == (0.1, 0.3)
    assert working({0.1: None, 0.3: None}) == ()
    # The largest, whatever lies between; the band is what hangs together around the best.
    scores = {0.1: 0.95, 0.3: 0.2, 1.0: 0.94, 3.0: 0.96, 10.0: 0.5}
    assert largest(scores) == Extent(math.log10(3.0))
    assert width(scores) == Extent(math.log10(3.0))
    assert width({0.1: 0.95, 1.0: 0.94, 10.0: 0.1}) == Extent(1.0, may_be_more=True)
    assert largest({0.1: 0.1, 1.0: 0.95}) == Extent(0.0, may_be_more=True)
    assert largest({0.1: None, 1.0: None}) == Extent(-1.0, may_be_less=True)
    assert width({0.1: None, 1.0: None}) == Extent(0.0, may_be_less=True)


def up_to(limits: dict[str, tuple[float, float]], probes: dict[str, float]) -> Truth:
    """Arms that work up to a rate, one of two by the parity of the seed; half as well at the next, then diverging."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        rate, limit = float(dict(place.setting)[LR]), limits[place.arm][seed % 2]
        if rate > 4 * limit:
            return DIVERGED
        # Best at 0.1, for no arm at an edge.
        accuracy = 0.95 - 0.01 * abs(math.log10(rate / 0.1)) if rate <= limit else 0.5
        probe = math.exp(about(math.log(probes[place.arm]), place, seed, PROBE, 0.1))
        return {**trained(accuracy, place, seed), PROBE: probe}

    return truth


LIMITS = {"bn": (3.0, 3.0), "plain": (0.3, 0.1), "ln": (0.3, 0.3)}
PROBES = {"bn": 3.0, "plain": 2000.0, "ln": 3.0}


def test_larger_rates_are_counted_seed_by_seed() -> None:
    design, report, runs = reported("larger-learning-rates", up_to(LIMITS, PROBES))
    assert outcomes(report) == {"largest": "holds", "one_step": "holds"}
    largest_rate, one_step = report.verdicts
    same_effect(largest_rate, design, [math.log10(3 / (0.1 if seed % 2 else 0.3)) for seed in range(10)])
    said = "largest learning rate, geometric mean, "
    assert largest_rate.measured[f"{said}batch normalization"] == pytest.approx(3.0)
    assert largest_rate.measured[f"{said}no normalization"] == pytest.approx(math.sqrt(0.03))
    assert largest_rate.measured[f"{said}layer normalization"] == pytest.approx(0.3)
    probes = {
        arm: [run.metrics[PROBE] for run in runs if run.arm == arm and run.setting == ((LR, 0.01),)]
        for arm in ("bn", "plain")
    }
    ratios = [math.log(theirs / ours) for theirs, ours in zip(probes["plain"], probes["bn"], strict=True)]
    same_effect(one_step, design, ratios)


@pytest.mark.parametrize(
    ("bn", "plain", "probe", "expected"),
    [
        ((1.0, 1.0), (1.0, 1.0), 2000.0, ("does_not_hold equivalent", "does_not_hold equivalent")),
        ((0.1, 0.1), (1.0, 1.0), 40_000.0, ("does_not_hold contradicted", "does_not_hold contradicted")),
        # Up to the end of the grid: at least so much further.
        ((30.0, 30.0), (0.3, 0.3), 3.0, ("holds", "holds")),
        # Of both only that they work everywhere is known.
        ((30.0, 30.0), (30.0, 30.0), 3.0, ("inconclusive", "holds")),
        # Plain networks may work further still; so does none of the normalized ones.
        ((1.0, 1.0), (30.0, 30.0), 3.0, ("does_not_hold contradicted", "holds")),
    ],
)
def test_larger_rates_may_be_none(
    bn: tuple[float, float], plain: tuple[float, float], probe: float, expected: tuple[str, str]
) -> None:
    limits = LIMITS | {"bn": bn, "plain": plain}
    _, report, _ = reported("larger-learning-rates", up_to(limits, PROBES | {"bn": probe}))
    assert tuple(outcomes(report).values()) == expected
    if expected[0] == "inconclusive":
        assert "takes a wider range" in report.verdicts[0].sentence


def test_a_plain_network_that_does_not_train_says_nothing_of_rates() -> None:
    truth = up_to(LIMITS, PROBES)

    def hopeless(place: Place, seed: int) -> object:
        found = truth(place, seed)
        return {**found, ACCURACY: 0.1, CHOSEN: 0.1} if place.arm == "plain" and isinstance(found, dict) else found

    _, report, _ = reported("larger-learning-rates", hopeless)
    assert outcomes(report)["largest"] == "inconclusive control_failed"
    lost = Place("bn", ((LR, 1.0),))
    _, report, _ = reported(
        "larger-learning-rates", lambda place, seed: MISSING if (place, seed) == (lost, 3) else truth(place, seed)
    )
    assert outcomes(report) == {"largest": "inconclusive", "one_step": "holds"}
    assert report.verdicts[0].effects is not None
    assert report.verdicts[0].effects.missing == (3,)


def test_a_probe_at_initialization_stands_where_training_diverged_behind_it() -> None:
    truth = up_to(LIMITS, PROBES)
    design, report, runs = reported("larger-learning-rates", truth)
    made = tuple(
        replace(run, diverged=run.diverged or (run.setting == ((LR, 0.01),) and run.seed == 2)) for run in runs
    )
    done = tuple(dict.fromkeys(run.stage for run in runs))
    again = answer(CLAIMS["larger-learning-rates"], design, Results(made, done))
    assert isinstance(again, Report)
    assert again.verdicts[1].estimated == report.verdicts[1].estimated


def at_rates(plain: dict[float, float | None], bn: dict[float, float | None]) -> Truth:
    """Accuracies by rate; None diverges, and so does what is not named."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        accuracy = {"plain": plain, "bn": bn}[place.arm].get(float(dict(place.setting)[LR]))
        return DIVERGED if accuracy is None else trained(accuracy, place, seed)

    return truth


PLAIN = {0.001: 0.85, 0.003: 0.94, 0.01: 0.955, 0.03: 0.95}
NORMALIZED = {0.001: 0.85, 0.003: 0.94, 0.01: 0.955, 0.03: 0.952, 0.1: 0.98, 0.3: 0.96}


@pytest.mark.parametrize(
    ("plain", "bn", "limit", "expected"),
    [
        (PLAIN, NORMALIZED, 0.03, ("holds equivalent", "holds")),
        # Better at the same rate already, which is also its best.
        (PLAIN, NORMALIZED | {0.03: 0.99}, 0.03, ("does_not_hold", "does_not_hold equivalent")),
        (PLAIN, NORMALIZED | {0.03: 0.9}, 0.03, ("does_not_hold", "holds")),
        (PLAIN | {0.03: 0.92}, NORMALIZED, 0.01, ("holds equivalent", "holds")),
        # Nobody knows where the plain network would stop.
        (PLAIN | {0.1: 0.95, 0.3: 0.95}, NORMALIZED, 0.3, ("inconclusive control_failed", "holds")),
        (PLAIN, NORMALIZED | {0.03: 0.1}, 0.03, ("inconclusive control_failed", "holds")),
    ],
)
def test_the_gain_may_be_the_rate(
    plain: dict[float, float | None], bn: dict[float, float | None], limit: float, expected: tuple[str, str]
) -> None:
    design, report, runs = reported("gain-is-the-learning-rate", at_rates(plain, bn))
    assert tuple(outcomes(report).values()) == expected
    same_rate, own_rate = report.verdicts
    assert same_rate.measured == {"largest learning rate that works without": limit}
    best = own_rate.measured["best learning rate with"]
    assert best == max(bn, key=lambda rate: bn[rate] or 0.0)
    found = {
        (run.arm, dict(run.setting)[LR], run.seed): run.metrics[ACCURACY] for run in runs if run.stage == "confirm"
    }
    theirs = [("bn", limit), ("plain", limit)], [("bn", best), ("bn", limit)]
    for verdict, (ours, other) in zip(report.verdicts, theirs, strict=True):
        same_effect(verdict, design, [found[*ours, seed] - found[*other, seed] for seed in range(10)])
    # One seed of three that diverges is enough not to work there.
    shaky = at_rates(PLAIN, NORMALIZED)
    last = Place("plain", ((LR, 0.03),))
    _, report, _ = reported(
        "gain-is-the-learning-rate",
        lambda place, seed: DIVERGED if (place, seed) == (last, 1_000_001) else shaky(place, seed),
    )
    assert report.verdicts[0].measured == {"largest learning rate that works without": 0.01}


def by_factor(works: dict[tuple[str, float], tuple[float, ...]]) -> Truth:
    """Plain networks are best at 0.03, normalized ones at 0.1; factors that work by arm and rate, the others at .5."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        setting = dict(place.setting)
        rate, best = float(setting[LR]), {"plain": 0.03, "bn": 0.1}[place.arm]
        if FACTOR not in setting:
            return trained(0.96 - 0.05 * abs(math.log10(rate / best)), place, seed)
        factor = float(setting[FACTOR])
        return trained(0.97 if factor in works[place.arm, rate] else 0.5, place, seed) if factor < 10 else DIVERGED

    return truth


def test_the_band_of_scales_is_that_around_the_best() -> None:
    wide, narrow = (0.1, 0.3, 1.0, 2.0, 4.0), (0.03, 0.3, 1.0)
    works = {("plain", 0.03): narrow, ("bn", 0.03): (1.0, 2.0), ("bn", 0.1): wide}
    design, report, runs = reported("insensitive-to-initialization", by_factor(works))
    best, matched = report.verdicts
    # 0.03 works with plain networks too; where it is the best one, its band is it alone, and open.
    scores = {
        (run.seed, dict(run.setting)[FACTOR]): run.metrics[ACCURACY]
        for run in runs
        if run.stage == "confirm" and run.arm == "plain" and not run.diverged
    }
    theirs = [
        0.0 if scores[seed, 0.03] == max(scores[seed, k] for k in narrow) else math.log10(1 / 0.3) for seed in range(10)
    ]
    assert {*theirs} == {0.0, math.log10(1 / 0.3)}
    same_effect(best, design, [math.log10(4 / 0.1) - width for width in theirs])
    same_effect(matched, design, [math.log10(2) - width for width in theirs])
    # Seeds whose plain band is open say at most.
    assert (best.outcome, matched.outcome) == ("inconclusive", "does_not_hold")
    assert best.effects is not None
    assert best.effects.bounds is not None
    assert best.effects.bounds.upper == theirs.count(0.0)


@pytest.mark.parametrize(
    ("plain", "at_plains", "at_own", "expected"),
    [
        ((1.0,), (0.3, 1.0, 2.0), (0.03, 0.1, 0.3, 1.0, 2.0, 4.0), ("holds", "holds")),
        ((0.3, 1.0), (0.3, 1.0), (0.3, 1.0), ("does_not_hold equivalent", "does_not_hold equivalent")),
        ((0.1, 0.3, 1.0, 2.0), (1.0,), (1.0, 2.0), ("does_not_hold contradicted", "does_not_hold contradicted")),
        # Open on both sides: known is nothing.
        ((0.03, 0.1, 0.3, 1.0), (0.03, 0.1, 0.3), (1.0, 2.0), ("does_not_hold contradicted", "inconclusive")),
    ],
)
def test_scales_may_matter_as_much(
    plain: tuple[float, ...], at_plains: tuple[float, ...], at_own: tuple[float, ...], expected: tuple[str, str]
) -> None:
    works = {("plain", 0.03): plain, ("bn", 0.03): at_plains, ("bn", 0.1): at_own}
    _, report, _ = reported("insensitive-to-initialization", by_factor(works))
    assert outcomes(report) == dict(zip(("best_versus_best", "at_best_of_baseline"), expected, strict=True))
