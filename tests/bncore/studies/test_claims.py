"""Claims drive studies by results alone, from first batch to verdict; by real experiments where they are short."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from bench.claims import answered, trained
from bncore.spec import load_spec, plan
from bncore.spec.evaluation import evaluation_faults, load_evaluation
from bncore.studies.claim import TUNING_SEEDS_FROM, Batch, Design, ScaleMissing, evaluations, experiments
from bncore.studies.claims import CLAIMS
from bncore.studies.looks import Looks, level
from bncore.studies.measures import (
    AtLevel,
    AtStep,
    Final,
    FirstReaching,
    Greatest,
    MeanOverSteps,
    Within,
    diverged,
    evaluation_metrics,
    measured,
    needed,
)
from bncore.studies.reports import Report, answer
from bncore.studies.results import Results, Run, results
from bncore.studies.verdict import document


@pytest.mark.parametrize(
    ("name", "hidden"), [("scale-invariance", [16, 16]), ("gradients-explode-with-depth", [24, 24, 24])]
)
def test_a_claim_of_initialization_goes_from_its_design_to_its_verdict(name: str, hidden: list[int], tmp_path: Path):
    claim = CLAIMS[name]
    small = {"network": {"hidden": hidden}, "data": {"kind": "digits"}}
    design = claim.design("tiny", overrides=small)
    batch = answer(claim, design, Results())
    assert isinstance(batch, Batch)
    asked = experiments(design, batch)
    assert {experiment.spec["network"]["norm"]["kind"] for experiment in asked} <= {"none", "batch_norm"}
    runs = results([trained(design, batch.stage, each, tmp_path) for each in asked]).runs
    found = Results(tuple(runs), (batch.stage,))
    report = answer(claim, design, found)
    assert isinstance(report, Report)
    assert json.dumps(document(report), allow_nan=False) == json.dumps(document(answer(claim, design, found)))
    for verdict in report.verdicts:
        if verdict.estimated is None:
            # eps 0 or scaled along: what is left is rounding, in float64.
            assert verdict.outcome == "holds"
            assert set(verdict.measured) == {f"{error}, {eps}" for error in ERRORS for eps in EPS} - {NOT_EXACT}
            assert 0 < max(verdict.measured.values()) < 1e-9
            continue
        arm = {"explodes": "bn", "plain": "plain"}[verdict.name]
        values = [run.metrics["diagnostics/gradient_norms/growth@0"] for run in runs if run.arm == arm]
        interval = DescrStatsW(values).tconfint_mean(level(Looks(12, (6,))))
        assert (verdict.estimated.interval.low, verdict.estimated.interval.high) == pytest.approx(interval)
    # One seed that is lost in all arms makes it inconclusive, and is said; the claim does not fail.
    lost = answer(claim, design, Results(tuple(run for run in runs if run.seed), (batch.stage,)))
    assert isinstance(lost, Report)
    assert {verdict.outcome for verdict in lost.verdicts} == {"inconclusive"}
    assert {verdict.label for verdict in lost.verdicts} == {None}


ERRORS = ("output_error", "gradient_error", "input_gradient_error", "orthogonality")
EPS = ("eps_zero", "eps_scaled")
NOT_EXACT = "orthogonality, eps_scaled"
"""<W, df/dW> = -2 eps df/d(eps), by Euler's theorem."""


def times(design: Design, batch: Batch, fast: float) -> list[Run]:
    """As if normalized networks took 100 / lr steps, plain ones `fast` times that; from lr 2 on none arrives."""
    runs = []
    for place in batch.places:
        lr = dict(place.setting)["optimizer.lr"]
        for seed in batch.seeds:
            noise = float(np.random.default_rng((seed, len(place.arm))).normal(0, 0.1))
            steps = 100 / lr * (1 if place.arm.endswith("bn") else fast) * np.exp(noise)
            there = None if lr >= 2 or steps > 6000 else float(steps)
            metrics = {design.measures[0].name: there, design.measures[1].name: there, "test/accuracy": 0.95}
            runs.append(Run(place.arm, seed, metrics, place.setting, stage=batch.stage))
    return runs


def test_arms_are_tuned_then_confirmed_with_other_seeds_then_extended() -> None:
    claim = CLAIMS["fewer-epochs"]
    design = claim.design("cpu")
    runs: list[Run] = []
    done: tuple[str, ...] = ()
    stages: dict[str, Batch] = {}
    while isinstance(step := answer(claim, design, Results(tuple(runs), done)), Batch):
        assert step == answer(claim, design, Results(tuple(reversed(runs)), done)), "asked twice it says the same"
        stages[step.stage] = step
        runs += times(design, step, fast=4)
        done = (*done, step.stage)
    assert list(stages) == ["tune", "confirm"]
    assert (len(stages["tune"].places), stages["tune"].seeds) == (
        4 * 3,
        tuple(range(TUNING_SEEDS_FROM, TUNING_SEEDS_FROM + 3)),
    )
    assert stages["confirm"].seeds == tuple(range(10))
    assert all(dict(place.setting) == {"optimizer.lr": 0.5} for place in stages["confirm"].places)
    assert {verdict.name: verdict.outcome for verdict in step.verdicts} == dict.fromkeys(design.margins, "holds")
    assert step.verdicts[0].estimated is not None
    assert step.verdicts[0].estimated.shown["effect"] == pytest.approx(4, rel=0.2)
    # Ten seeds more, after a look that was taken.
    longer = design.extended(10)
    more = answer(claim, longer, Results(tuple(runs), done))
    assert isinstance(more, Batch)
    assert (more.stage, more.seeds, more.places) == ("extend-1", tuple(range(10, 20)), stages["confirm"].places)
    runs += times(longer, more, fast=4)
    looks = {verdict.name: verdict.estimated.looks for verdict in step.verdicts if verdict.estimated}
    after = answer(claim, longer, Results(tuple(runs), (*done, "extend-1")), looks)
    assert isinstance(after, Report)
    assert after.verdicts[0].estimated is not None
    assert after.verdicts[0].estimated.looks == (10, 20)
    assert after.verdicts[0].estimated.level == pytest.approx(level(Looks(20, (10, 20))))
    for seeds in (0, 11):
        with pytest.raises(ValueError, match="20 seeds"):
            design.extended(seeds)


def test_a_grid_is_widened_once_and_then_the_edge_is_said() -> None:
    claim = CLAIMS["fewer-epochs"]
    design = claim.design("cpu")

    def ever_faster(batch: Batch) -> list[Run]:
        return [
            Run(
                place.arm,
                seed,
                {name: 100 / dict(place.setting)["optimizer.lr"] for name in names},
                place.setting,
                stage=batch.stage,
            )
            for place in batch.places
            for seed in batch.seeds
        ]

    names = [measure.name for measure in design.measures]
    runs: list[Run] = []
    done: tuple[str, ...] = ()
    while isinstance(step := answer(claim, design, Results(tuple(runs), done)), Batch):
        runs += ever_faster(step)
        done = (*done, step.stage)
        if step.stage == "widen":
            assert {value for place in step.places for _, value in place.setting} == {8.0, 32.0}
    assert done == ("tune", "widen", "confirm")
    assert {(verdict.outcome, verdict.label) for verdict in step.verdicts} == {("inconclusive", "control_failed")}
    assert "sigmoid-bn at optimizer.lr = 32.0" in step.verdicts[0].sentence


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
@pytest.mark.parametrize("scale", ["tiny", "cpu", "gpu"])
def test_every_experiment_of_a_design_is_one_that_the_service_accepts(claim: Any, scale: Any) -> None:
    try:
        design = claim.design(scale)
    except ScaleMissing:
        return
    runs: list[Run] = []
    done: tuple[str, ...] = ()
    while isinstance(step := claim.next_step(design, Results(tuple(runs), done)), Batch):
        asked = experiments(design, dataclasses.replace(step, seeds=step.seeds[:1]))
        assert len({json.dumps(each.spec, sort_keys=True) for each in asked}) == len(step.places)
        for each in asked:
            valid = load_spec(each.spec)
            assert plan(valid).total_steps
            for evaluation in evaluations(design, each.place.arm).values():
                assert evaluation_faults(load_evaluation(dict(evaluation)), valid) == []
        # All alike, so that the middle of every grid is chosen.
        metrics: dict[str, float | None] = {measure.name: 0.5 for measure in design.measures}
        pairs = [(place, seed) for place in step.places for seed in step.seeds]
        runs += [Run(place.arm, seed, metrics, place.setting, stage=step.stage) for place, seed in pairs]
        done = (*done, step.stage)
    assert {question.name for question in step} >= {*design.margins}
    assert all(claim.literature), "what others found stands beside it"


@pytest.mark.system
@pytest.mark.parametrize("name", CLAIMS)
def test_a_tiny_study_runs_from_its_design_to_its_report(name: str, tmp_path: Path) -> None:
    design = CLAIMS[name].design("tiny")
    report = answered(design, [], tmp_path)
    assert {verdict.name for verdict in report.verdicts} >= {*design.margins}
    # Whatever a question rests on was measured; fewer seeds than six are no verdict.
    assert all(verdict.effects is None or not verdict.effects.missing for verdict in report.verdicts)
    assert all(math.isfinite(number) for verdict in report.verdicts for number in verdict.measured.values())
    assert not [*tmp_path.iterdir()]


def test_what_an_evaluation_found_becomes_metrics() -> None:
    before = {"accuracy": 0.5, "loss": "NaN", "count": 3, "classes": [{"recall": 1.0}]}
    found = evaluation_metrics("blur", {"before": before, "after": {"accuracy": 0.75, "loss": None}, "reason": None})
    assert (found["evaluation/blur/accuracy"], found["evaluation/blur/before/accuracy"]) == (0.75, 0.5)
    assert math.isnan(found["evaluation/blur/before/loss"] or 0.0)
    assert not {"evaluation/blur/loss", "evaluation/blur/before/classes"} & {*found}
    # Nothing else was asked for; or there was nothing, of weights that diverged.
    alone, none = (
        evaluation_metrics("clean", {"before": before, "after": None, "reason": reason}) for reason in (None, "no")
    )
    assert alone["evaluation/clean/accuracy"] == none["evaluation/clean/before/accuracy"] == 0.5
    assert "evaluation/clean/accuracy" not in none


SERIES = {
    "test/accuracy": ([10, 20, 40], [0.5, 0.92, 0.9]),
    "test/loss": ([10, 20, 40], [2.0, 1.0, 0.5]),
    "train/loss": ([1, 2], [2.0, 999.0]),
    "falling": (list(range(1, 41)), [0.5] * 5 + [2.0] * 5 + [1.5, 0.5] * 5 + [0.4] * 20),
    "overflown": ([1, 2, 3], [float("nan"), 3.0, 2.0]),
}


def test_series_become_numbers() -> None:
    accuracy = "test/accuracy"
    found = measured(
        (
            Final(accuracy),
            AtStep("test/loss", 20),
            AtStep("test/loss", 0),
            FirstReaching(accuracy, 0.9),
            FirstReaching(accuracy, 0.95),
            FirstReaching("test/loss", 1.0, higher_is_better=False),
            MeanOverSteps(accuracy),
            Final("validation/loss"),
            Greatest(accuracy),
            Greatest("overflown"),
        ),
        SERIES,
    )
    assert found == {
        accuracy: 0.9,
        "test/loss@20": 1.0,
        "steps until test/accuracy >= 0.9": 20.0,
        "steps until test/accuracy >= 0.95": None,
        "steps until test/loss <= 1": 20.0,
        "mean of test/accuracy": pytest.approx((10 * 0.71 + 20 * 0.91) / 30),
        "greatest test/accuracy": 0.92,
        "greatest overflown": 3.0,
    }
    assert not diverged(SERIES)
    assert diverged({"train/loss": ([1], [1001.0])})
    assert diverged({"train/loss": ([1, 2], [float("nan"), 1.0])})


def test_stretches_of_series_become_numbers() -> None:
    found = measured(
        (
            Within("test/accuracy", 15, 40),
            Within("test/loss", 0, 40, "median"),
            Within("test/loss", 50, 60),
            Within("overflown", 1, 3, "median"),
            Within("overflown", 1, 3),
            AtLevel("test/loss", "falling", 1.0),
            AtLevel("test/loss", "falling", 0.1),
            AtLevel("test/loss", "nothing", 1.0),
        ),
        SERIES,
    )
    assert found == {
        "mean of test/accuracy over steps 15 to 40": pytest.approx(0.91),
        "median of test/loss over steps 0 to 40": 1.0,
        "median of overflown over steps 1 to 3": 3.0,
        "mean of overflown over steps 1 to 3": float("inf"),
        # 1.25 on average over the steps until 10, 1 exactly over those until 20.
        "test/loss when falling <= 1": 1.0,
        "test/loss when falling <= 0.1": None,
    }
    asked = (Final("test/accuracy"), AtLevel("test/loss", "train/loss", 1.0))
    assert needed(asked) == {"test/accuracy", "test/loss", "train/loss"}


def test_who_designs_a_study_loads_neither_scipy_nor_torch() -> None:
    code = """
import sys, bncore.studies.claims, bncore.studies.stages
print(sorted({"scipy", "torch", "statsmodels"} & {*sys.modules}))
import bncore.studies.reports
print(sorted({"scipy", "torch", "statsmodels"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "['scipy']"]
