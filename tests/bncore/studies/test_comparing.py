"""A free comparison goes from what was posted to its verdicts, by what its runs found."""

import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from bncore.spec import load_spec
from bncore.spec.free_comparison import load_comparison
from bncore.spec.merging import merged
from bncore.studies.asking import document_of, fingerprint_of
from bncore.studies.claim import TUNING_SEEDS_FROM, Batch, Design, experiments
from bncore.studies.comparing import Comparison, compared
from bncore.studies.looks import Looks, level
from bncore.studies.reports import Report, answer, holm
from bncore.studies.results import Results, Run

SPEC: dict[str, Any] = {
    "data": {"kind": "digits", "validation": {"share": 0.2}},
    "network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "none"}},
    "train": {"steps": 40},
    "evaluation": {"every_steps": 10},
    "stall_seconds": None,
}
BN = {"network": {"norm": {"kind": "batch_norm"}}}
LN = {"network": {"norm": {"kind": "layer_norm"}}}


def changed(patch: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = merged(SPEC, patch)
    return found


def asked(**fields: Any) -> dict[str, Any]:
    return {"compare": {"baseline": SPEC, "bn": changed(BN)}, "delta": 0.01, **fields}


TWO_NORMS = {"baseline": "none", "bn": "batch_norm"}
TIMES = {"metric": "steps_to_target", "target": {"value": 0.8}}


def drive(claim: Comparison, design: Design, value: Any, runs: list[Run] | None = None) -> tuple[Report, list[Batch]]:
    """To its verdicts; `value` makes of an arm, its setting and a seed the metrics of a run."""
    runs, done, batches = runs if runs is not None else [], (), []
    while isinstance(step := answer(claim, design, Results(tuple(runs), done)), Batch):
        batches.append(step)
        for one in experiments(design, step):
            spec = load_spec(one.spec)
            assert (spec.train.seed, spec.stall_seconds) == (one.seed, None)
            assert all(spec.optimizer.lr == lr for _, lr in one.place.setting)
            metrics = value(one.place.arm, dict(one.place.setting), one.seed)
            runs.append(Run(one.place.arm, one.seed, metrics, one.place.setting, stage=step.stage))
        done = (*done, step.stage)
    return step, batches


def accuracy(arm: str, setting: dict[str, Any], seed: int) -> dict[str, float]:
    """Best at a rate of its own, whatever the seed: baseline at .1, bn at 1, ln at .1; validation one point lower."""
    best = {"baseline": (0.9, 0.1), "bn": (0.94, 1.0), "ln": (0.905, 0.1)}[arm]
    noise = float(np.random.default_rng((seed, len(arm))).normal(0, 0.002))
    found = best[0] - 0.05 * abs(math.log10(setting.get("optimizer.lr", best[1]) / best[1])) + noise
    return {"test/accuracy": found, "validation/accuracy": found - 0.01}


def test_arms_are_tuned_alike_then_judged_with_fresh_pairs_at_their_own_and_at_matched_settings() -> None:
    document = asked(tune={"optimizer.lr": [0.01, 0.1, 1.0, 10.0]}, seeds=8)
    document["compare"]["ln"] = changed(LN)
    claim = compared(load_comparison(document))
    design = claim.design("cpu")
    assert Comparison(load_comparison(claim.asked.model_dump(mode="json"))).design("cpu") == design
    runs: list[Run] = []
    found, (tuning, judging) = drive(claim, design, accuracy, runs)
    assert (tuning.stage, len(tuning.places), tuning.seeds[0]) == ("tune", 3 * 4, TUNING_SEEDS_FROM)
    assert judging.seeds == tuple(range(8))
    verdicts = {verdict.name: verdict for verdict in found.verdicts}
    # ln is best where the baseline is: matched settings are the same comparison, which is made once.
    assert set(verdicts) == {"bn-best_versus_best", "bn-at_best_of_baseline", "ln-best_versus_best"}
    assert [verdicts[name].outcome for name in verdicts] == ["holds", "does_not_hold", "does_not_hold"]
    at = {(run.arm, dict(run.setting)["optimizer.lr"], run.seed): run.metrics["test/accuracy"] for run in runs}
    for name, (arm, lr) in {
        "bn-best_versus_best": ("bn", 1.0),
        "bn-at_best_of_baseline": ("bn", 0.1),
        "ln-best_versus_best": ("ln", 0.1),
    }.items():
        values = np.array([at[arm, lr, seed] or 0 for seed in range(8)]) - [
            at["baseline", 0.1, s] or 0 for s in range(8)
        ]
        estimated = verdicts[name].estimated
        assert estimated is not None
        assert estimated.effect == pytest.approx(float(values.mean()), abs=1e-12)
        interval = DescrStatsW(values).tconfint_mean(level(Looks(16, (8,))))
        assert (estimated.interval.low, estimated.interval.high) == pytest.approx(interval)
        assert {guard.name for guard in verdicts[name].guards if guard.passed} == {
            "enough_pairs", "winner_inside_grid", "baseline_trains", "treatment_trains",
        }  # fmt: skip
    p = [verdict.estimated.tests for verdict in found.verdicts if verdict.estimated]
    assert [one.decision_holm for one in p] == holm([one.decision for one in p])


def test_a_winner_at_the_edge_widens_the_grid_as_far_as_specs_are_valid() -> None:
    claim = compared(load_comparison(asked(tune={"network.dropout": [0.0, 0.3, 0.6]})))
    (axis,) = claim.design("cpu").grid.axes
    assert (axis.scale, axis.least, axis.largest) == ("linear", 0.0, 0.9)
    claim = compared(load_comparison(asked(tune={"optimizer.lr": [0.01, 0.1]}, estimand=TIMES, delta=0.5)))
    design = claim.design("cpu")
    assert set(design.margins.values()) == {design.margins["bn-best_versus_best"]}
    assert design.margins["bn-best_versus_best"].value == pytest.approx(math.log(1.5))

    def reached(arm: str, setting: dict[str, Any], seed: int) -> dict[str, float | None]:
        step = {"baseline": 20.0, "bn": 10.0}[arm] * 3 / (3 + math.log10(setting["optimizer.lr"])) + seed % 3
        there = step if step <= 40 else None
        return {
            "steps until test/accuracy >= 0.8": there,
            "steps until validation/accuracy >= 0.8": there,
            "test/accuracy": 0.9,
        }

    found, batches = drive(claim, design, reached)
    assert [batch.stage for batch in batches] == ["tune", "widen", "confirm"]
    assert {dict(place.setting)["optimizer.lr"] for place in batches[1].places} == {1.0, 10.0}
    (verdict,) = found.verdicts
    assert verdict.estimand is not None
    assert (verdict.estimand.budget, verdict.estimand.first) == (40, 10)
    # Best at the edge of the widened grid, 10: a guard says so.
    assert (verdict.outcome, verdict.label) == ("inconclusive", "control_failed")
    assert any("optimizer.lr = 10" in reason for reason in verdict.reasons)


def test_a_network_that_diverged_is_as_good_as_chance() -> None:
    claim = compared(load_comparison(asked()))
    design = claim.design("cpu")

    def value(arm: str, _setting: dict[str, Any], _seed: int) -> dict[str, float]:
        return {"test/accuracy": 0.9 if arm == "baseline" else 0.95}

    runs: list[Run] = []
    drive(claim, design, value, runs)
    lost = [Run(run.arm, run.seed, {}, diverged=True, stage="confirm") if run.arm == "bn" else run for run in runs]
    report = answer(claim, design, Results(tuple(lost), ("confirm",)))
    assert isinstance(report, Report)
    (verdict,) = report.verdicts
    assert verdict.estimated is not None
    assert verdict.estimated.effect == pytest.approx(0.1 - 0.9)
    assert (verdict.outcome, verdict.label) == ("inconclusive", "control_failed")


def test_who_always_says_the_commonest_class_does_not_train() -> None:
    """Nine tenths are of one class, so that nine tenths right is nothing learned."""
    signal = {"kind": "vector", "shape": [3]}
    about = {"sha256": "0" * 64, "signal": signal, "task": "classification", "outputs": 2}
    sizes = {"examples": {"train": 900, "test": 100}, "class_counts": [810, 90]}
    data = {"kind": "dataset", "id": "dat_" + "0" * 32, **about, **sizes}
    norms = {name: {"norm": {"kind": norm}} for name, norm in TWO_NORMS.items()}
    arms = {name: {"data": data, "network": norm, "stall_seconds": None} for name, norm in norms.items()}
    claim = compared(load_comparison({"compare": arms, "delta": 0.01, "seeds": 6}))
    report, _ = drive(claim, claim.design("cpu"), lambda arm, *_: {"test/accuracy": 0.9 + 0.08 * (arm == "bn")})
    (verdict,) = report.verdicts
    guards = {guard.name: guard.sentence for guard in verdict.guards if not guard.passed}
    assert list(guards) == ["baseline_trains"]
    assert "baseline does not train: test/accuracy 0.900, 0.950 is asked for. " in guards["baseline_trains"]


@pytest.mark.parametrize(("trains_at", "failed"), [(None, 2), (0.5, 0), (0.63, 1), (0.7, 2)])
def test_what_noise_allows_may_count_as_trained(trains_at: float | None, failed: int) -> None:
    """Of three classes 0.65 is far from chance and below half-way to 1, and with much noise nobody gets farther."""
    data = {"kind": "dataset", "id": "dat_" + "0" * 32, "sha256": "0" * 64, "task": "classification", "outputs": 3}
    data |= {"signal": {"kind": "vector", "shape": [3]}, "examples": {"train": 900, "test": 300}}
    data |= {"class_counts": [300, 300, 300]}
    norms = {name: {"norm": {"kind": norm}} for name, norm in TWO_NORMS.items()}
    arms = {name: {"data": data, "network": norm, "stall_seconds": None} for name, norm in norms.items()}
    claim = compared(load_comparison({"compare": arms, "delta": 0.01, "seeds": 6, "trains_at": trains_at}))
    report, _ = drive(claim, claim.design("cpu"), lambda arm, *_: {"test/accuracy": 0.62 + 0.03 * (arm == "bn")})
    (verdict,) = report.verdicts
    sentences = [guard.sentence for guard in verdict.guards if not guard.passed]
    assert len(sentences) == failed
    assert verdict.outcome == ("inconclusive" if failed else "holds")
    assert all(("`trains_at`" in sentence) == (trains_at is None) for sentence in sentences)


def test_what_counts_as_trained_is_of_the_design_and_changes_none_that_does_not_say_it() -> None:
    usual, other = (compared(load_comparison(asked(trains_at=bar))).design("cpu") for bar in (None, 0.5))
    assert fingerprint_of(usual) != fingerprint_of(other)
    assert document_of(other)["trains_at"] == 0.5
    # Designs that were stored before there was such a field are those that are made today.
    assert "trains_at" not in document_of(usual)


def test_names_of_any_script_stand_in_the_sentence() -> None:
    name = "\u65e5\u672c <b> {x} %s \U0001f600"
    claim = compared(load_comparison({"compare": {"baseline": SPEC, name: changed(BN)}, "delta": 0.01, "seeds": 6}))
    report, _ = drive(claim, claim.design("cpu"), lambda *_: {"test/accuracy": 0.9})
    assert f"with {name} as with baseline" in report.verdicts[0].sentence
