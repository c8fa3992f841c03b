"""A free comparison goes from what was posted to its verdicts, and what cannot be answered is refused beforehand."""

import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from bncore.spec import SpecError, load_spec
from bncore.spec.free_comparison import load_comparison
from bncore.spec.merging import merged
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
NORMED = (("baseline", BN), ("ln", LN))
WHOLE = {"diagnostics": [{"kind": "norm_health", "full": True}]}


def changed(patch: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = merged(SPEC, patch)
    return found


def asked(**fields: Any) -> dict[str, Any]:
    return {"compare": {"baseline": SPEC, "bn": changed(BN)}, "delta": 0.01, **fields}


def against(patch: dict[str, Any]) -> dict[str, Any]:
    """Specs of which the second has something besides its norm."""
    return {"compare": {"baseline": SPEC, "bn": merged(changed(BN), patch)}}


GRADIENTS = [{"kind": "gradient_norms"}]


def measuring(*diagnostics: dict[str, Any]) -> dict[str, Any]:
    """Two arms that both do."""
    both = {"diagnostics": [*diagnostics]}
    return {"compare": {"baseline": changed(both), "bn": changed({**both, **BN})}}


MEASURING = measuring(*GRADIENTS)
MOMENTS = measuring({"kind": "activation_moments"})
ACTIVATIONS = ["relu", "identity"]
LESS = {"higher_is_better": False}
TYPO = "train/lsos"


def of_diagnostic(series: str, more: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Of a comparison by a scalar."""
    return {"estimand": {"metric": f"diagnostics/{series}", **LESS, **(more or {})}, **fields}


WITHOUT_VALIDATION = {
    name: changed({"data": {"validation": None}, **patch}) for name, patch in {"baseline": {}, "bn": BN}.items()
}
TWO_NORMS = {"baseline": "none", "bn": "batch_norm"}
TIMES = {"metric": "steps_to_target", "target": {"value": 0.8}}
GROWTH = {"metric": "diagnostics/gradient_norms/growth", "higher_is_better": False}
GRID = {"kind": "grid", "low": 0.01, "high": 0.9, "count": 1000}
REFUSED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no baseline": ({"compare": {"a": SPEC, "b": changed(BN)}}, "/compare/baseline", "no_baseline", '"baseline"'),
    "one arm": ({"compare": {"baseline": SPEC}}, "/compare", "one_arm", "second spec"),
    "nothing differs": (
        {"compare": {"baseline": SPEC, "bn": changed({"name": "b", "train": {"seed": 0}})}},
        "/compare/bn",
        "same_spec",
        "nothing",
    ),
    "treatments alike": (
        {"compare": {"baseline": SPEC, "a": changed(BN), "b": changed(BN)}},
        "/compare/b",
        "same_spec",
        "from a",
    ),
    "delta of 0": ({"delta": 0}, "/delta", "no_margin", "0.01"),
    "no delta": ({"delta": None}, "/delta", "missing", "0.01"),
    "delta below 0": ({"delta": -0.01}, "/delta", "no_margin", "0.01"),
    "points for shares": ({"delta": 1.0}, "/delta", "margin_too_large", "0.01"),
    "two seeds": ({"seeds": 2}, "/seeds", "too_few_seeds", "6"),
    "invalid arm": (against({"network": {"hidden": [0]}}), "/compare/bn/network/hidden/0", "greater_than_equal", "1"),
    "no such series": ({"estimand": {"metric": "test/loss@batch"}}, "/estimand/metric", "no_such_series", "statistics"),
    "no diagnostic": (
        {"estimand": {"metric": "diagnostics/gradient_norms/growth", "higher_is_better": False}},
        "/estimand/metric",
        "no_such_series",
        '"gradient_norms"',
    ),
    "a typo of a scalar": (
        of_diagnostic("gradient_norms/grwoth", **MEASURING),
        "/estimand/metric",
        "no_such_series",
        "mean diagnostics/gradient_norms/growth?",
    ),
    "no such scalar": (
        of_diagnostic("gradient_norms/zzz", **MEASURING),
        "/estimand/metric",
        "no_such_series",
        "growth, hidden_growth, total",
    ),
    "a typo of a kind": (
        of_diagnostic("gradient_norm/growth", **MEASURING),
        "/estimand/metric",
        "no_such_series",
        "mean diagnostics/gradient_norms/growth?",
    ),
    "a typo of a target": (
        {"estimand": {"metric": "steps_to_target", "target": {"metric": TYPO, "value": 1, **LESS}}},
        "/estimand/target/metric",
        "no_such_series",
        "mean train/loss?",
    ),
    "measured in one arm": (
        of_diagnostic("gradient_norms/growth", **against({"diagnostics": GRADIENTS})),
        "/estimand/metric",
        "no_such_series",
        "baseline does not record",
    ),
    "an arm without norms": (
        of_diagnostic("norm_health/max_gap"),
        "/estimand/metric",
        "no_such_series",
        "without normalizations has no norm_health",
    ),
    "a norm without it": (
        of_diagnostic("norm_health/max_gap", compare={name: changed({**norm, **WHOLE}) for name, norm in NORMED}),
        "/estimand/metric",
        "no_such_series",
        "ln does not record",
    ),
    "a run too short for it": (
        of_diagnostic("norm_health/max_gap", compare={name: changed(norm) for name, norm in NORMED}),
        "/estimand/metric",
        "no_such_series",
        '{"kind": "norm_health", "full": true}',
    ),
    "never measured": (
        of_diagnostic("gradient_norms/growth", {"take": "mean", "over": [1, 39]}, **MEASURING),
        "/estimand/over",
        "never_measured",
        "at no step from 1 to 39",
    ),
    "never evaluated": (
        {"estimand": {"take": "mean", "over": [11, 19]}},
        "/estimand/over",
        "never_measured",
        "at no step from 11 to 19",
    ),
    "a setting without it": (
        of_diagnostic("activation_moments/slope_activation", **MOMENTS, tune={"network.activation": ACTIVATIONS}),
        "/tune/network.activation/1",
        "no_such_series",
        "Would not record",
    ),
    "no validation": (
        {
            "compare": WITHOUT_VALIDATION,
            "estimand": {"metric": "validation/accuracy"},
        },
        "/estimand/metric",
        "no_such_series",
        "data.validation",
    ),
    "nothing to tune by": (
        {
            "compare": WITHOUT_VALIDATION,
            "tune": {"optimizer.lr": [0.1, 1.0]},
        },
        "/tune",
        "no_validation",
        "data.validation",
    ),
    "unknown direction": ({"estimand": {"metric": "lr"}}, "/estimand/higher_is_better", "direction_unknown", "better"),
    "a typo": (
        {"estimand": {"metric": "test/acuracy"}},
        "/estimand/higher_is_better",
        "direction_unknown",
        "mean test/accuracy",
    ),
    "other device": (
        against({"resources": {"device": "cpu"}}),
        "/compare/bn/resources/device",
        "not_paired",
        "auto",
    ),
    "no target": ({"estimand": {"metric": "steps_to_target"}}, "/estimand/target", "no_target", "value"),
    "other examples": (
        against({"data": {"validation": {"seed": 1}}}),
        "/compare/bn/data",
        "not_paired",
        "data.validation.seed",
    ),
    "other seeds": (against({"train": {"seed": 5}}), "/compare/bn/train/seed", "not_paired", "leave it out"),
    "other cadence": (
        {**against({"evaluation": {"every_steps": 20}}), "estimand": TIMES},
        "/compare/bn/evaluation/every_steps",
        "cadences_differ",
        "every 10",
    ),
    "other budget": (
        {**against({"train": {"steps": 50}}), "estimand": TIMES},
        "/compare/bn/train",
        "budgets_differ",
        "train.steps",
    ),
    "ends early": (
        against({"train": {"target": {"accuracy": 0.5, "stop": True}}}),
        "/compare/bn/train/target/stop",
        "ends_early",
        "false",
    ),
    "steps of a diagnostic": (
        {"estimand": {"metric": "steps_to_target", "target": {**GROWTH, "value": 2.0}}},
        "/estimand/target/metric",
        "no_time",
        "before the first step",
    ),
    "other cadence of a diagnostic": (
        {
            "compare": {
                name: changed({**patch, "diagnostics": [{"kind": "gradient_norms", "at": [step]}]})
                for name, patch, step in (("baseline", {}, 0), ("bn", BN, 10))
            },
            "estimand": GROWTH,
        },
        "/compare/bn/diagnostics",
        "cadences_differ",
        "the same every_steps",
    ),
    "per cent": (
        {"estimand": {"metric": "steps_to_target", "target": {"value": 90}}},
        "/estimand/target/value",
        "target_too_large",
        "0.9",
    ),
    "no path": ({"tune": {"optimizer.rate": [0.1, 1.0]}}, "/tune/optimizer.rate", "no_such_path", "optimizer"),
    "a list": ({"tune": {"network.hidden": [0.1, 1.0]}}, "/tune/network.hidden", "no_such_path", "number or word"),
    "data tuned": ({"tune": {"data.validation.share": [0.1, 0.2]}}, "/tune/data.validation.share", "not_tunable", ""),
    "invalid setting": ({"tune": {"optimizer.lr": [0.1, -1.0]}}, "/tune/optimizer.lr/1", "greater_than", "0"),
    "too many": (
        {"tune": {"optimizer.lr": GRID, "optimizer.momentum": GRID, "optimizer.weight_decay": GRID}},
        "/tune",
        "too_many_points",
        "1,000,000,000 settings",
    ),
    "unknown field": ({"deltas": 1}, "/deltas", "unknown_field", "delta"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused_with_pointer_and_cure(case: str) -> None:
    fields, pointer, code, cure = REFUSED[case]
    with pytest.raises(SpecError) as refused:
        compared(load_comparison(asked(**fields)))
    (fault, *_) = refused.value.faults
    assert (fault.pointer, fault.code) == (pointer, code)
    assert cure in fault.detail


def test_a_stretch_with_the_end_of_training_is_looked_at() -> None:
    """39 of 45 steps behind the last multiple of 10."""
    ends = {name: changed({**patch, "train": {"steps": 45}}) for name, patch in {"baseline": {}, "bn": BN}.items()}
    for over in ([41, 45], [40, 44], [0, 10]):
        mean = {"metric": "test/accuracy", "take": "mean", "over": over}
        assert compared(load_comparison(asked(compare=ends, estimand=mean)))


def test_a_grid_whose_steps_overflow_is_tuned_as_it_stands() -> None:
    posted = asked(tune={"optimizer.weight_decay": [1e-300, 1e-100, 0.01]})
    (axis,) = compared(load_comparison(posted)).design("cpu").grid.axes
    assert axis.values == (1e-300, 1e-100, 0.01)


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = {"compare": WITHOUT_VALIDATION, "tune": {"optimizer.rate": [0.1, 1.0]}}
    wrong["estimand"] = {"metric": "test/x", "higher_is_better": True}
    with pytest.raises(SpecError) as refused:
        compared(load_comparison(asked(**wrong)))
    assert {(fault.pointer, fault.code) for fault in refused.value.faults} == {
        ("/tune", "no_validation"),
        ("/tune/optimizer.rate", "no_such_path"),
        ("/estimand/metric", "no_such_series"),
    }


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
    assert guards == {"baseline_trains": "baseline does not train: test/accuracy 0.900, 0.950 is asked for."}


@pytest.mark.parametrize("name", ["  ", "a/b", "a~b", "", "x" * 65, "a\nb"])
def test_a_name_that_nobody_can_read_or_point_to_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        load_comparison({"compare": {"baseline": SPEC, name: changed(BN)}, "delta": 0.01})


def test_names_of_any_script_stand_in_the_sentence() -> None:
    name = "\u65e5\u672c <b> {x} %s \U0001f600"
    claim = compared(load_comparison({"compare": {"baseline": SPEC, name: changed(BN)}, "delta": 0.01, "seeds": 6}))
    report, _ = drive(claim, claim.design("cpu"), lambda *_: {"test/accuracy": 0.9})
    assert f"with {name} than with baseline" in report.verdicts[0].sentence
