"""C6, C12 and C19 with made-up runs whose truth is known: dropout, networks with structure, weight decay."""

import math

import pytest

from bncore.studies.results import Place
from tests.bncore.studies.made_up import DIVERGED, MISSING, Truth, about, outcomes, reported, same_effect

ACCURACY, CHOSEN = "test/accuracy", "validation/accuracy"
LOSS = "test/loss when train/loss <= 0.05"
LR, DROPOUT = "optimizer.lr", "network.dropout"


def dropped(scores: dict[tuple[str, float], float], losses: dict[str, float | None]) -> Truth:
    """Accuracies by arm and probability; test losses by arm, None where the training loss never comes down so far."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        p, loss = float(dict(place.setting).get(DROPOUT, 0.0)), losses[place.arm]
        noisy = None if loss is None else about(loss, place, seed, LOSS, 0.01)
        accuracy = scores[place.arm, p]
        chosen = about(accuracy, place, seed, CHOSEN, 0.0005)
        return {LOSS: noisy, ACCURACY: about(accuracy, place, seed), CHOSEN: chosen}

    return truth


SCORES = {
    ("plain", 0.0): 0.945, ("plain", 0.1): 0.949, ("plain", 0.2): 0.952, ("plain", 0.5): 0.94,
    ("bn", 0.0): 0.965, ("bn", 0.1): 0.96, ("bn", 0.2): 0.962, ("bn", 0.5): 0.95,
}  # fmt: skip
LOSSES: dict[str, float | None] = {"plain": 0.25, "bn": 0.15}


@pytest.mark.parametrize(
    ("scores", "losses", "expected"),
    [
        ({}, {}, ("holds", "holds", "holds")),
        # Dropout helps a normalized network, and does not: as good as with it, no worse than that.
        ({("bn", 0.2): 0.98}, {"bn": 0.25}, ("does_not_hold equivalent", "does_not_hold contradicted", "holds")),
        ({("plain", 0.2): 0.965}, {"bn": 0.36}, ("does_not_hold contradicted", "holds", "does_not_hold equivalent")),
        ({("plain", 0.2): 0.98}, {"plain": None}, ("inconclusive", "holds", "does_not_hold contradicted")),
        ({("bn", 0.0): 0.2}, {}, ("inconclusive control_failed",) * 3),
    ],
)
def test_dropout_can_go_or_not(
    scores: dict[tuple[str, float], float], losses: dict[str, float | None], expected: tuple[str, ...]
) -> None:
    design, report, runs = reported("regularizes-without-dropout", dropped(SCORES | scores, LOSSES | losses))
    assert tuple(outcomes(report).values()) == expected
    judged = {(run.arm, dict(run.setting).get(DROPOUT, 0.0), run.seed): run for run in runs if run.stage == "confirm"}
    # Probabilities are chosen on validation data, each arm its own.
    assert {key[:2] for key in judged} == {("plain", 0.0), ("bn", 0.0), ("plain", 0.2), ("bn", 0.2)}
    test_loss, without, instead = report.verdicts
    for verdict, arm in ((without, "bn"), (instead, "plain")):
        pairs = [(judged["bn", 0.0, seed], judged[arm, 0.2, seed]) for seed in range(20)]
        same_effect(verdict, design, [ours.metrics[ACCURACY] - theirs.metrics[ACCURACY] for ours, theirs in pairs])
    if (LOSSES | losses)["plain"] is not None:
        pairs = [(judged["bn", 0.0, seed], judged["plain", 0.0, seed]) for seed in range(20)]
        same_effect(test_loss, design, [theirs.metrics[LOSS] - ours.metrics[LOSS] for ours, theirs in pairs])
    else:
        assert test_loss.n == 0


CURVE, REACHED = "mean of validation/accuracy", "steps until test/accuracy >= 0.95"


def convolved(times: dict[tuple[str, float], float | None], accuracies: dict[str, float]) -> Truth:
    """Steps to the target by arm and rate (None: not within the budget; 0.0: it diverged), final accuracy by arm."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        rate = float(dict(place.setting)[LR])
        time = times[place.arm, rate]
        if time == 0.0:
            return DIVERGED
        noisy = None if time is None else time * math.exp(about(0.0, place, seed, REACHED, 0.05))
        # Both are best at 0.3, if the tests do not say otherwise by a time of None.
        curve = 0.9 - 0.05 * abs(math.log10(rate / 0.3)) - 0.1 * (time is None)
        return {
            REACHED: noisy,
            CURVE: about(curve, place, seed, CURVE, 0.001),
            ACCURACY: about(accuracies[place.arm], place, seed),
        }

    return truth


FAST = {(arm, rate): steps for arm, steps in (("bn", 20.0), ("plain", 80.0)) for rate in (0.03, 0.1, 0.3, 1.0)}
NAMES = [f"{what}-{which}" for what in ("steps", "accuracy") for which in ("best_versus_best", "at_best_of_baseline")]


@pytest.mark.parametrize(
    ("times", "plain", "expected"),
    [
        ({}, 0.95, ("holds",) * 4),
        # Plain networks never arrive, at their best rate: at least so much faster.
        ({("plain", rate): None for rate in (0.03, 0.1, 0.3, 1.0)}, 0.95, ("holds",) * 4),
        ({("bn", rate): 78.0 for rate in (0.03, 0.1, 0.3, 1.0)}, 0.978, ("does_not_hold equivalent",) * 4),
        # Normalized networks are best at 0.1, and diverge at the other's best.
        (
            {("bn", 0.3): 0.0, ("bn", 1.0): 0.0},
            0.95,
            ("holds", "inconclusive control_failed", "holds", "inconclusive control_failed"),
        ),
        (dict.fromkeys(FAST), 0.95, ("inconclusive control_failed",) * 2 + ("holds",) * 2),
    ],
)
def test_convolutional_networks_are_asked_for_time_and_accuracy(
    times: dict[tuple[str, float], float | None], plain: float, expected: tuple[str, ...]
) -> None:
    design, report, runs = reported("works-in-cnn", convolved(FAST | times, {"bn": 0.98, "plain": plain}))
    assert outcomes(report) == dict(zip(NAMES, expected, strict=True))
    best = {"plain": 0.3, "bn": 0.1 if ("bn", 0.3) in times and times["bn", 0.3] == 0.0 else 0.3}
    judged = {(run.arm, dict(run.setting)[LR], run.seed): run for run in runs if run.stage == "confirm"}
    pairs = [(judged["bn", best["bn"], seed], judged["plain", 0.3, seed]) for seed in range(10)]
    reached = [[run.metrics[REACHED] or 120.0 for run in pair] for pair in pairs]
    same_effect(report.verdicts[0], design, [math.log(theirs / ours) for ours, theirs in reached])
    same_effect(
        report.verdicts[2], design, [ours.metrics[ACCURACY] - theirs.metrics[ACCURACY] for ours, theirs in pairs]
    )


RECURRENT = {"rows-plain": 0.96, "rows-bn": 0.972, "rows-shared": 0.95, "pixels-plain": 0.7, "pixels-bn": 0.76}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ("holds", "holds", "holds")),
        ({"pixels-bn": 0.6, "rows-shared": 0.972}, ("holds", "does_not_hold contradicted", "does_not_hold equivalent")),
        ({"rows-bn": 0.96, "pixels-plain": 0.1}, ("does_not_hold equivalent", "inconclusive control_failed", "holds")),
    ],
)
def test_recurrent_networks_are_never_averaged(changed: dict[str, float], expected: tuple[str, ...]) -> None:
    means = RECURRENT | changed
    best = {"rows-plain": 0.001, "rows-bn": 0.003, "rows-shared": 0.001, "pixels-plain": 0.003, "pixels-bn": 0.001}

    def truth(place: Place, seed: int) -> dict[str, float | None]:
        rate = float(dict(place.setting)[LR])
        lost = 0.05 * abs(math.log10(rate / best[place.arm]))
        return {ACCURACY: about(means[place.arm] - lost, place, seed, sd=0.002), CHOSEN: means[place.arm] - lost}

    design, report, runs = reported("works-in-rnn", truth)
    assert tuple(outcomes(report).values()) == expected
    # Best at the largest rate, two arms had the grid widened for all.
    assert {run.stage for run in runs} == {"tune", "widen", "confirm"}
    judged = {(run.arm, run.seed): run.metrics[ACCURACY] for run in runs if run.stage == "confirm"}
    assert {dict(run.setting)[LR] for run in runs if run.stage == "confirm" and run.arm == "rows-bn"} == {0.003}
    pairs = (("rows-bn", "rows-plain"), ("pixels-bn", "pixels-plain"), ("rows-bn", "rows-shared"))
    for verdict, (ours, theirs) in zip(report.verdicts, pairs, strict=True):
        same_effect(verdict, design, [judged[ours, seed] - judged[theirs, seed] for seed in range(10)])


BEST, NORM = "greatest validation/accuracy", "mean of diagnostics/weight_norms/total"
DECAYS = ("0", "1e-05", "0.0001", "0.001", "0.01")


def decaying(bn: dict[str, float], plain: dict[str, float], instead: float, norm: float = 10.0) -> Truth:
    """Best accuracies by decay, where the rate is 0.03; `instead` without decay at rates that are not of the grid; the
    norm of the weights that decay by .001, where those of others have 20."""

    def truth(place: Place, seed: int) -> dict[str, float | None]:
        arm, decay = place.arm.split("-", 1)
        rate = float(dict(place.setting)[LR])
        accuracy = {"bn": bn, "plain": plain}[arm][decay] - 0.05 * abs(math.log10(rate / 0.03))
        if place.arm == "bn-0" and rate not in (0.003, 0.01, 0.03, 0.1, 0.3):
            accuracy = instead
        return {BEST: about(accuracy, place, seed, sd=0.001), NORM: norm if place.arm == "bn-0.001" else 20.0}

    return truth


FLAT = {"0": 0.96, "1e-05": 0.962, "0.0001": 0.964, "0.001": 0.97, "0.01": 0.96}
STEEP = {"0": 0.94, "1e-05": 0.941, "0.0001": 0.945, "0.001": 0.95, "0.01": 0.9}


@pytest.mark.parametrize(
    ("bn", "plain", "instead", "expected"),
    [
        (FLAT, STEEP, 0.97, ("holds", "holds equivalent")),
        (FLAT, FLAT, 0.95, ("does_not_hold equivalent", "does_not_hold")),
        (STEEP, FLAT, 0.95, ("does_not_hold contradicted", "holds equivalent")),
        (FLAT, dict.fromkeys(DECAYS, 0.15), 0.97, ("inconclusive control_failed", "holds equivalent")),
    ],
)
def test_decay_may_matter_less_and_a_rate_take_its_place(
    bn: dict[str, float], plain: dict[str, float], instead: float, expected: tuple[str, str]
) -> None:
    design, report, runs = reported("weight-decay-can-shrink", decaying(bn, plain, instead))
    assert tuple(outcomes(report).values()) == expected
    judged = {
        (run.arm, dict(run.setting)[LR], run.seed): run.metrics[BEST] or 0.0 for run in runs if run.stage == "confirm"
    }
    # The weights that decayed have half the norm of those that did not: four times the rate.
    assert report.verdicts[1].measured == {"learning rate with decay": 0.03, "learning rate without": 0.12}
    spreads = {
        arm: [
            max(judged[f"{arm}-{decay}", 0.03, seed] for decay in DECAYS)
            - min(judged[f"{arm}-{decay}", 0.03, seed] for decay in DECAYS)
            for seed in range(10)
        ]
        for arm in ("plain", "bn")
    }
    same_effect(report.verdicts[0], design, [a - b for a, b in zip(spreads["plain"], spreads["bn"], strict=True)])
    free = [judged["bn-0", 0.12, seed] - judged["bn-0.001", 0.03, seed] for seed in range(10)]
    same_effect(report.verdicts[1], design, free)


def test_a_norm_that_is_not_there_leaves_the_rate_and_a_lost_run_is_missed() -> None:
    truth = decaying(FLAT, STEEP, 0.97, norm=math.nan)
    lost = Place("plain-0.01", ((LR, 0.03),))
    _, report, _ = reported(
        "weight-decay-can-shrink", lambda place, seed: MISSING if (place, seed) == (lost, 4) else truth(place, seed)
    )
    assert report.verdicts[1].measured == {"learning rate with decay": 0.03, "learning rate without": 0.03}
    assert outcomes(report)["spread"] == "inconclusive"
    assert report.verdicts[0].effects is not None
    assert report.verdicts[0].effects.missing == (4,)
