"""Claims about what goes on inside of networks, judged by runs that are made up: the truth is known."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bncore.studies.claims import CLAIMS
from bncore.studies.looks import Looks, level
from bncore.studies.reports import Report, answer
from bncore.studies.results import Place, Results, Run
from bncore.studies.verdict import Verdict
from tests.bncore.studies.made_up import DIVERGED, MISSING, Truth, about, outcomes, reported, same_effect

ACCURACY = "test/accuracy"


def of(report: Report, name: str) -> Verdict:
    return next(verdict for verdict in report.verdicts if verdict.name == name)


def values(runs: list[Run], arm: str, key: str) -> np.ndarray:
    """By seed."""
    return np.array([run.metrics[key] for run in sorted(runs, key=lambda run: run.seed) if run.arm == arm], float)


def trains(counts: Mapping[tuple[str, float], int], lost: tuple[str, float, int] | None = None) -> Truth:
    """So many seeds of an arm train at a rate: by default all with batch normalization, and none without."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        lr = float(dict(place.setting)["optimizer.lr"])
        if lost == (place.arm, lr, seed):
            return MISSING
        trained = seed < counts.get((place.arm, lr), 100 if place.arm == "bn" else 0)
        # Some of those that do not train diverge.
        return {ACCURACY: 0.9 + 0.001 * seed} if trained else {ACCURACY: 0.3} if seed % 3 else DIVERGED

    return truth


def test_saturating_networks_are_counted_at_every_rate() -> None:
    name = "saturating-activations-train"
    design, report, runs = reported(name, trains({}))
    assert len(runs) == 2 * 7 * 10
    (verdict,) = report.verdicts
    # Ten of ten are as likely as not where nine tenths train.
    assert (verdict.outcome, verdict.n) == ("inconclusive", 10)
    assert 0.9**10 > 0.3
    # All ten of one arm and none of the other: both ends of the hypergeometric distribution.
    assert verdict.measured["p by Fisher's test"] == pytest.approx(2 / math.comb(20, 10))
    for seeds, counts, outcome in (
        (40, {}, "holds"),
        (40, {("bn", 0.03): 39}, "inconclusive"),
        (10, {("plain", 3.0): 6}, "does_not_hold"),
        (10, {("plain", 3.0): 5}, "inconclusive"),
        (10, {("bn", 30.0): 0}, "does_not_hold"),
    ):
        _, report, _ = reported(name, trains(counts), seeds)
        assert report.verdicts[0].outcome == outcome, counts
        for (arm, lr), trained in counts.items():
            words = {"bn": "batch normalization", "plain": "no normalization"}[arm]
            assert report.verdicts[0].measured[f"share at optimizer.lr {lr}, {words}"] == trained / seeds
    # Of fourteen shares one is refuted at a fourteenth of the level of the first look.
    error = level(Looks(20, (10,))) / 14 / 2
    assert stats.binom.sf(5, 10, 0.1) < error < stats.binom.sf(4, 10, 0.1)
    assert stats.binom.sf(39, 40, 0.9) < 14 * error < stats.binom.sf(38, 40, 0.9)
    _, report, _ = reported(name, trains({}, lost=("plain", 0.3, 4)))
    assert outcomes(report) == {"trains": "inconclusive"}
    assert "seeds 4" in report.verdicts[0].sentence
    few = replace(design, seeds=5)
    kept = tuple(run for run in runs if run.seed < 5)
    report = answer(CLAIMS[name], few, Results(kept, ("confirm",)))
    assert isinstance(report, Report)
    assert outcomes(report) == {"trains": "inconclusive"}


SLOPE = "diagnostics/activation_moments/slope@0"
SLOPES = {"mlp-he": (0.002, 0.0), "mlp-glorot": (-0.001, -0.3), "resnet": (0.03, 0.12)}
"""With batch normalization, and without."""


def test_variances_are_judged_by_architecture_whatever_training_made_of_the_network() -> None:
    def truth(place: Place, seed: int) -> dict[str, float | None]:
        network, _, arm = place.arm.rpartition("-")
        return {SLOPE: about(SLOPES[network][arm == "plain"], place, seed, sd=0.003)}

    design, report, runs = reported("moments-steady-with-depth", truth)
    expected = {
        "mlp-he-plain": "does_not_hold equivalent",
        "mlp-he-bn": "holds equivalent",
        "mlp-glorot-plain": "does_not_hold contradicted",
        "mlp-glorot-bn": "holds equivalent",
        "resnet-plain": "holds",
        "resnet-bn": "does_not_hold",
    }
    assert outcomes(report) == expected
    for arm in expected:
        same_effect(of(report, arm), design, values(runs, arm, SLOPE))
    for change, same in (({"diverged": True}, True), ({"metrics": {SLOPE: math.nan}}, False)):
        made = tuple(replace(run, **change) if run.arm == "resnet-plain" else run for run in runs)
        again = answer(CLAIMS["moments-steady-with-depth"], design, Results(made, ("confirm",)))
        assert isinstance(again, Report)
        assert outcomes(again) == expected | ({} if same else {"resnet-plain": "inconclusive"})


GROWTH = "diagnostics/gradient_norms/growth@0"


def test_growth_at_initialization_stands_whatever_became_of_the_one_step_that_is_trained() -> None:
    def truth(place: Place, seed: int) -> dict[str, float | None]:
        return {GROWTH: about(1.2 if place.arm == "bn" else 0.98, place, seed, "growth", 0.01)}

    design, report, runs = reported("gradients-explode-with-depth", truth)
    assert outcomes(report) == {"explodes": "holds equivalent", "plain": "holds equivalent"}
    made = tuple(replace(run, diverged=run.seed % 3 == 0) for run in runs)
    again = answer(CLAIMS["gradients-explode-with-depth"], design, Results(made, ("confirm",)))
    assert isinstance(again, Report)
    assert [each.estimated for each in again.verdicts] == [each.estimated for each in report.verdicts]
    assert outcomes(again) == outcomes(report)


MODE, AGREE = "diagnostics/gradient_heatmap/mode@0", "diagnostics/gradient_heatmap/colcons@0"


def test_one_class_and_correlated_gradients_are_two_questions() -> None:
    def truth(place: Place, seed: int) -> dict[str, float | None]:
        plain = place.arm.endswith("-plain")
        agree = (0.1 if "glorot" in place.arm else 0.6) if plain else 0.25
        mode = (0.4 if "mlp5-" in place.arm else 0.9) if plain else 0.3
        return {MODE: about(mode, place, seed, "mode", 0.02), AGREE: about(agree, place, seed, "agree", 0.02)}

    design, report, runs = reported("one-class-at-initialization", truth)
    found = outcomes(report)
    assert len(found) == 14
    assert {found[f"mlp{depth}-{init}-mode"] for depth in (20, 50) for init in ("he", "glorot")} == {"holds"}
    assert {found["mlp5-he-mode"], found["mlp5-glorot-mode"]} == {"does_not_hold equivalent"}
    assert {found[f"mlp{depth}-he-colcons"] for depth in (5, 20, 50)} | {found["resnet110-colcons"]} == {"holds"}
    assert {found[f"mlp{depth}-glorot-colcons"] for depth in (5, 20, 50)} == {"does_not_hold contradicted"}
    plain, bn = (values(runs, f"resnet110-{arm}", AGREE) for arm in ("plain", "bn"))
    same_effect(of(report, "resnet110-colcons"), design, list(plain - bn))
    # Networks of 110 layers without normalization do not survive the one step: they were measured before it.
    made = tuple(replace(run, diverged=run.arm.endswith("-plain")) for run in runs)
    again = answer(CLAIMS["one-class-at-initialization"], design, Results(made, ("confirm",)))
    assert isinstance(again, Report)
    assert outcomes(again) == found


DRIFT = "mean of diagnostics/covariate_shift/last_drift over steps 401 to 4000"
COSINE = "mean of diagnostics/covariate_shift/mean_cosine over steps 0 to 399"
COSINES = {"relu": (0.73, 0.6), "tanh": (0.83, 0.98), "linear": (0.54, 0.997)}


def shifting(accuracies: Mapping[str, float], lost: tuple[str, int] | None = None) -> Truth:
    """Drift falls; cosines are those of claims.md; accuracies by norm of deep networks, .95 where nothing is said."""

    def truth(place: Place, seed: int) -> dict[str, float | None] | str:
        network, norm = place.arm.split("-")
        if lost == (place.arm, seed):
            return MISSING
        accuracy = accuracies.get(norm, 0.95) if network in ("relu", "tanh") else 0.95
        if accuracy < 0:
            return DIVERGED
        found: dict[str, float | None] = {ACCURACY: about(accuracy, place, seed, "accuracy", 0.002)}
        if network == "sigmoid":
            return {**found, DRIFT: math.exp(about(math.log(0.07 if norm == "plain" else 0.01), place, seed, sd=0.1))}
        if norm in ("bn", "plain"):
            found[COSINE] = about(COSINES[network][norm == "plain"], place, seed, "cosine", 0.02)
        return {key: value for key, value in found.items() if network != "linear" or key != ACCURACY}

    return truth


def test_covariate_shift_has_three_answers() -> None:
    design, report, runs = reported("covariate-shift", shifting({"plain": 0.9, "noise": 0.1}))
    assert outcomes(report) == {
        "drift": "holds",
        "gradient-relu": "holds",
        "gradient-tanh": "does_not_hold contradicted",
        "gradient-linear": "does_not_hold contradicted",
        "cause-relu-no-worse": "holds equivalent",
        "cause-relu-better": "holds",
        "cause-tanh-no-worse": "holds equivalent",
        "cause-tanh-better": "holds",
    }
    logs = [np.log(values(runs, f"sigmoid-{norm}", DRIFT)) for norm in ("plain", "bn")]
    same_effect(of(report, "drift"), design, list(logs[0] - logs[1]))
    cosines = [values(runs, f"linear-{norm}", COSINE) for norm in ("bn", "plain")]
    same_effect(of(report, "gradient-linear"), design, list(cosines[0] - cosines[1]))
    scores = [values(runs, f"tanh-{norm}", ACCURACY) for norm in ("noisy", "plain")]
    same_effect(of(report, "cause-tanh-better"), design, list(scores[0] - scores[1]))


@pytest.mark.parametrize(
    ("accuracies", "guard", "questions"),
    [
        ({"plain": 0.9, "noise": 0.9}, "control_fails", ("no-worse", "better")),
        ({"plain": 0.1, "noise": 0.1}, "baseline_trains", ("better",)),
        ({"plain": 0.9, "noise": 0.1, "noisy": -1.0}, "treatment_trains", ("no-worse", "better")),
    ],
)
def test_a_cause_is_judged_where_noise_does_harm_and_both_sides_train(
    accuracies: Mapping[str, float], guard: str, questions: tuple[str, ...]
) -> None:
    _, report, _ = reported("covariate-shift", shifting(accuracies))
    for network in ("relu", "tanh"):
        for question in ("no-worse", "better"):
            verdict = of(report, f"cause-{network}-{question}")
            failed = [one.name for one in verdict.guards if not one.passed]
            assert failed == ([guard] if question in questions else [])
            assert (verdict.label == "control_failed") == (question in questions)
    if guard == "treatment_trains":
        # Diverged, it is scored as chance, and is not left out.
        assert of(report, "cause-relu-no-worse").n == 10
        assert of(report, "cause-relu-no-worse").estimated is not None
        assert of(report, "cause-relu-no-worse").estimated.effect == pytest.approx(0.1 - 0.95, abs=0.005)


def test_a_control_that_is_missing_has_not_failed() -> None:
    _, report, runs = reported("covariate-shift", shifting({"plain": 0.9, "noise": 0.1}))
    design = CLAIMS["covariate-shift"].design("cpu")
    kept = tuple(run for run in runs if run.arm != "relu-noise" and (run.arm, run.seed) != ("sigmoid-bn", 3))
    again = answer(CLAIMS["covariate-shift"], design, Results(kept, ("confirm",)))
    assert isinstance(again, Report)
    changed = {name for name, outcome in outcomes(again).items() if outcome != outcomes(report)[name]}
    assert changed == {"drift", "cause-relu-no-worse", "cause-relu-better"}
    assert outcomes(again)["drift"] == "inconclusive"
    assert outcomes(again)["cause-relu-better"] == "inconclusive control_failed"


def median(name: str) -> str:
    return f"median of diagnostics/loss_landscape/{name} over steps 0 to 79"


QUANTITIES = ("range", "predictiveness", "effective_smoothness")


def landscape(plain_accuracy: float = 0.9, overflown: str = "") -> Truth:
    """With ReLU 4, 1.2 and 2 times smoother, with tanh as much rougher."""

    def truth(place: Place, seed: int) -> dict[str, float | None]:
        network, norm = place.arm.split("-")
        found: dict[str, float | None] = {
            ACCURACY: about(plain_accuracy if norm == "plain" else 0.95, place, seed, "accuracy", 0.002),
            median("scale_free_smoothness"): 3.0 if norm == "bn" else 5.0,
        }
        for name, ratio in zip(QUANTITIES, (4.0, 1.2, 2.0), strict=True):
            larger = (norm == "plain") == (network == "relu")
            found[median(name)] = math.exp(about(math.log(ratio) if larger else 0.0, place, seed, name, 0.05))
            if place.arm == overflown:
                found[median(name)] = math.inf
        return found

    return truth


def test_the_landscape_is_judged_by_network_and_quantity() -> None:
    design, report, runs = reported("smoother-landscape", landscape())
    assert outcomes(report) == {
        "relu-range": "holds",
        "relu-predictiveness": "does_not_hold equivalent",
        "relu-effective_smoothness": "holds",
        "tanh-range": "does_not_hold contradicted",
        "tanh-predictiveness": "does_not_hold contradicted",
        "tanh-effective_smoothness": "does_not_hold contradicted",
    }
    plain, bn = (np.log(values(runs, f"relu-{norm}", median("range"))) for norm in ("plain", "bn"))
    same_effect(of(report, "relu-range"), design, list(plain - bn))
    assert sorted(of(report, "relu-range").measured.values()) == [3.0, 5.0]
    _, report, _ = reported("smoother-landscape", landscape(plain_accuracy=0.2))
    assert {verdict.label for verdict in report.verdicts} == {"control_failed"}
    # Half of the looks or more beyond all numbers have no logarithm: missing, and said so.
    _, report, _ = reported("smoother-landscape", landscape(overflown="relu-plain"))
    assert {outcomes(report)[f"relu-{name}"] for name in QUANTITIES} == {"inconclusive"}
    assert "have no effect" in of(report, "relu-range").sentence
