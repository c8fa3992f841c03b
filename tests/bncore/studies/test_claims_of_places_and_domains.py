"""Claims on where normalization is (C9, C10) and on other domains (C17), of runs whose truth is known."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from bncore.studies.claims import CLAIMS
from bncore.studies.results import Place, Run
from tests.bncore.studies.made_up import DIVERGED, MISSING, Truth, about, outcomes, reported, same_effect

TEST, CURVE, VALIDATION = "test/accuracy", "mean of test/accuracy", "validation/accuracy"
LR = "optimizer.lr"


def confirmed(runs: list[Run], arm: str, lr: float, key: str = TEST) -> np.ndarray:
    found = [run for run in runs if (run.arm, run.setting, run.stage) == (arm, ((LR, lr),), "confirm")]
    return np.array([run.metrics[key] for run in sorted(found, key=lambda run: run.seed)])


def placed(gains: Mapping[str, float], best: Mapping[str, float], curve: float = 0.0, base: float = 0.96) -> Truth:
    """By activation what the place behind it gains, at that arm's best lr; elsewhere 5 points less a decade."""

    def truth(place: Place, seed: int) -> Mapping[str, float]:
        activation, where = place.arm.split("-")
        away = abs(math.log10(float(dict(place.setting)[LR]) / best.get(place.arm, 0.3)))
        mean = base - 0.05 * away + (gains[activation] if where == "after" else 0.0)
        return {
            TEST: about(mean, place, seed, sd=0.001),
            VALIDATION: about(mean, place, seed, "validation", 0.001),
            CURVE: about(mean - 0.1 + (curve if where == "after" else 0.0), place, seed, "curve", 0.001),
        }

    return truth


def test_each_placement_is_judged_at_its_own_best_learning_rate_and_by_activation() -> None:
    best = {"sigmoid-before": 0.05, "sigmoid-after": 1.0}
    # At an edge of the grid each: two values more on either side for all, none of them better.
    design, report, runs = reported("placement", placed({"sigmoid": 0.02, "tanh": 0.0, "relu": 0.02}, best))
    assert outcomes(report) == {
        "sigmoid-better": "holds",
        "sigmoid-equal": "does_not_hold",
        "sigmoid-equal-curve": "does_not_hold",
        "tanh-better": "does_not_hold equivalent",
        "tanh-equal": "holds equivalent",
        "tanh-equal-curve": "holds equivalent",
        # Recommended is in front: behind being better contradicts.
        "relu-better": "does_not_hold contradicted",
        "relu-equal": "does_not_hold",
        "relu-equal-curve": "does_not_hold",
    }
    assert {run.stage for run in runs} == {"tune", "widen", "confirm"}
    assert {dict(run.setting)[LR] for run in runs if run.stage == "widen"} == {0.00833333, 0.00138889, 3.33333, 11.1111}
    sigmoid = confirmed(runs, "sigmoid-after", 1.0) - confirmed(runs, "sigmoid-before", 0.05)
    relu = confirmed(runs, "relu-before", 0.3, CURVE) - confirmed(runs, "relu-after", 0.3, CURVE)
    same_effect(report.verdicts[0], design, sigmoid)
    same_effect(report.verdicts[8], design, relu)
    matched = "test accuracy, batch normalization behind sigmoid, lr 0.05"
    assert report.verdicts[0].measured[matched] == pytest.approx(confirmed(runs, "sigmoid-after", 0.05).mean())


def test_equal_in_the_end_is_not_equal_on_the_way() -> None:
    same = {"sigmoid": 0.0, "tanh": 0.0, "relu": 0.0}
    _, report, _ = reported("placement", placed(same, {}, curve=0.03))
    found = outcomes(report)
    assert (found["tanh-equal"], found["tanh-equal-curve"]) == ("holds equivalent", "does_not_hold")


def test_a_placement_that_does_not_train_or_is_best_at_the_edge_is_not_judged() -> None:
    same = {"sigmoid": 0.0, "tanh": 0.0, "relu": 0.0}
    _, report, _ = reported("placement", placed(same, {}, base=0.2))
    assert set(outcomes(report).values()) == {"inconclusive control_failed"}
    _, report, _ = reported("placement", placed(same, {"relu-after": 100.0}))
    assert outcomes(report)["relu-better"] == "inconclusive control_failed"
    assert outcomes(report)["tanh-equal"] == "holds equivalent"
    whole = placed(same, {})
    _, report, _ = reported(
        "placement",
        lambda place, seed: DIVERGED if place.arm == "tanh-before" and seed < 3 else whole(place, seed),
    )
    assert outcomes(report)["tanh-equal"] == "inconclusive"
    _, report, _ = reported(
        "placement",
        lambda place, seed: MISSING if (place.arm, seed) == ("tanh-before", 3) else whole(place, seed),
    )
    assert outcomes(report)["tanh-better"] == "inconclusive"


def tables(means: Mapping[str, float]) -> Truth:
    """By the arm's name behind that of the data set; best at the middle of the grid."""

    def truth(place: Place, seed: int) -> Mapping[str, float] | str:
        mean = means[place.arm.split("-", 1)[1]] - 0.02 * abs(math.log10(float(dict(place.setting)[LR]) / 0.01))
        if math.isnan(mean):
            return DIVERGED
        return {TEST: about(mean, place, seed, sd=0.002), VALIDATION: about(mean, place, seed, "v", 0.002)}

    return truth


@pytest.mark.parametrize(
    ("means", "found"),
    [
        (
            {"raw": math.nan, "raw-bn": 0.96, "standardized": 0.96, "standardized-bn": 0.96},
            ("holds", "holds equivalent", "holds equivalent"),
        ),
        (
            {"raw": 0.95, "raw-bn": 0.96, "standardized": 0.98, "standardized-bn": 0.94},
            ("does_not_hold equivalent", "does_not_hold", "does_not_hold"),
        ),
        (
            {"raw": 0.96, "raw-bn": 0.8, "standardized": 0.96, "standardized-bn": 0.96},
            ("does_not_hold contradicted", "does_not_hold", "holds equivalent"),
        ),
        # 0.4 is below half-way from chance to 1 of three classes as of two.
        (
            {"raw": 0.33, "raw-bn": 0.4, "standardized": 0.96, "standardized-bn": 0.96},
            ("inconclusive control_failed", "inconclusive control_failed", "holds equivalent"),
        ),
    ],
)
def test_a_normalized_input_is_compared_with_raw_and_with_standardized_data(
    means: Mapping[str, float], found: tuple[str, str, str]
) -> None:
    design, report, runs = reported("input-normalization", tables(means))
    for name in ("wine", "breast_cancer"):
        questions = tuple(f"{name}-{which}" for which in ("gain", "replaces", "adds-nothing"))
        assert tuple(outcomes(report)[question] for question in questions) == found
    by_name = {verdict.name: verdict for verdict in report.verdicts}
    same_effect(
        by_name["wine-replaces"],
        design,
        confirmed(runs, "wine-raw-bn", 0.01) - confirmed(runs, "wine-standardized", 0.01),
    )
    if math.isnan(means["raw"]):
        # What diverged is worth chance: 1 / 3 of three classes, 1 / 2 of two.
        same_effect(by_name["wine-gain"], design, confirmed(runs, "wine-raw-bn", 0.01) - 1 / 3)
        same_effect(by_name["breast_cancer-gain"], design, confirmed(runs, "breast_cancer-raw-bn", 0.01) - 1 / 2)


GAINS = {"contrast": 0.3, "brightness": 0.1, "noise": 0.0, "blur": -0.1, "inversion": 0.02, "rotation": 0.2}
SOURCE = 0.5


def domains(tent: float = 0.0, clean: float = 0.0, trained: float = 0.97) -> Truth:
    def truth(place: Place, seed: int) -> Mapping[str, float]:
        metrics = {TEST: about(trained, place, seed)}
        for domain, gain in (*GAINS.items(), ("clean", clean)):
            before = SOURCE if domain != "clean" else trained
            for which in ("adabn", "tent", "4", "16", "64", "298", "one-class"):
                key = f"evaluation/{domain}-{which}"
                metrics[f"{key}/before/accuracy"] = about(before, place, seed, domain, 0.002)
                after = before + gain + (tent if which == "tent" else 0.0)
                metrics[f"{key}/accuracy"] = about(after, place, seed, key, 0.002)
        return metrics

    return truth


def test_every_shift_has_a_verdict_of_its_own() -> None:
    design, report, runs = reported("statistics-adapt-to-domain", domains(tent=0.02))
    found = outcomes(report)
    assert {shift: found[f"{shift}-adabn"] for shift in GAINS} == {
        "contrast": "holds",
        "brightness": "holds",
        "noise": "does_not_hold equivalent",
        "blur": "does_not_hold contradicted",
        "inversion": "does_not_hold equivalent",
        "rotation": "holds",
    }
    assert {found[f"{shift}-tent"] for shift in GAINS} == {"holds"}
    assert (found["clean-adabn"], found["clean-64"]) == ("holds", "holds")
    assert len(found) == 14, "and none of all together"
    metrics = [run.metrics for run in runs]
    after, before, tent = (
        np.array([each[f"evaluation/contrast-{key}/accuracy"] for each in metrics])
        for key in ("adabn", "adabn/before", "tent")
    )
    same_effect(report.verdicts[0], design, after - before)
    same_effect(next(one for one in report.verdicts if one.name == "contrast-tent"), design, tent - after)
    assert report.verdicts[0].measured["accuracy on images of low contrast, statistics of 4 target images"] > 0.75


def test_statistics_that_lose_on_clean_images_and_networks_that_did_not_train() -> None:
    _, report, _ = reported("statistics-adapt-to-domain", domains(clean=-0.05))
    assert outcomes(report)["clean-64"] == "does_not_hold contradicted"
    assert outcomes(report)["contrast-tent"] == "does_not_hold equivalent"
    _, report, _ = reported("statistics-adapt-to-domain", domains(trained=0.2))
    assert set(outcomes(report).values()) == {"inconclusive control_failed"}
    whole = domains()
    _, report, _ = reported(
        "statistics-adapt-to-domain", lambda place, seed: MISSING if seed == 4 else whole(place, seed)
    )
    assert set(outcomes(report).values()) == {"inconclusive"}


def test_shifts_and_sizes_are_those_that_were_registered() -> None:
    asked = CLAIMS["statistics-adapt-to-domain"].design("cpu").evaluations
    shifts = {name.rsplit("-", 1)[0]: spec["data"].get("shift") for name, spec in asked.items() if "clean" not in name}
    assert shifts == {kind: {"kind": kind, "severity": 5} for kind in GAINS}
    sizes = {spec["statistics"].get("batch_size", "all") for name, spec in asked.items() if name.startswith("noise-")}
    assert sizes == {4, 16, 64, 298, "all"}
