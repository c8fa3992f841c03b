"""What a free comparison cannot answer is refused beforehand, with the place, the reason and the cure."""

from typing import Any

import pytest

from bncore.spec import SpecError
from bncore.spec.free_comparison import load_comparison
from bncore.spec.merging import merged
from bncore.studies.comparing import compared
from tests.bncore.studies.test_comparing import BN, LN, SPEC, TIMES, asked, changed

NORMED = (("baseline", BN), ("ln", LN))
WHOLE = {"diagnostics": [{"kind": "norm_health", "full": True}]}


def against(patch: dict[str, Any]) -> dict[str, Any]:
    """Specs of which the second has something besides its norm."""
    return {"compare": {"baseline": SPEC, "bn": merged(changed(BN), patch)}}


GRADIENTS = [{"kind": "gradient_norms"}]


def measuring(*diagnostics: dict[str, Any]) -> dict[str, Any]:
    """Two arms that both do."""
    both = {"diagnostics": [*diagnostics]}
    return {"compare": {"baseline": changed(both), "bn": changed({**both, **BN})}}


MEASURING = measuring(*GRADIENTS)
DEEP = {"network": {"hidden": [8, 8]}}
MOMENTS = {
    "compare": {
        name: merged(changed({**patch, "diagnostics": [{"kind": "activation_moments"}]}), DEEP)
        for name, patch in {"baseline": {}, "bn": BN}.items()
    }
}
SHALLOW = measuring({"kind": "gradient_norms", "every_steps": 10})
ACTIVATIONS = ["relu", "identity"]
OFTEN = {"diagnostics": [{"kind": "norm_health", "every_steps": 5}]}
HEALTHY = (("baseline", BN), ("renorm", {"network": {"norm": {"kind": "batch_renorm"}}}))

LINES = {**SPEC, "data": {"kind": "santurkar_linear"}}
REGRESSION = {"compare": {"baseline": LINES, "bn": merged(LINES, BN)}, "estimand": {"metric": "test/loss"}}


def against_deep(patch: dict[str, Any]) -> dict[str, Any]:
    """The same, with a baseline in which gradients are measured."""
    return {
        "compare": {"baseline": merged(changed({"diagnostics": GRADIENTS}), DEEP), "bn": merged(changed(BN), patch)}
    }


LESS = {"higher_is_better": False}
TYPO = "train/lsos"


def of_diagnostic(series: str, more: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Of a comparison by a scalar."""
    return {"estimand": {"metric": f"diagnostics/{series}", **LESS, **(more or {})}, **fields}


WITHOUT_VALIDATION = {
    name: changed({"data": {"validation": None}, **patch}) for name, patch in {"baseline": {}, "bn": BN}.items()
}
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
    "chance is no training": ({"trains_at": 0.1}, "/trains_at", "no_training", "has 0.1"),
    "training in points": ({"trains_at": 60}, "/trains_at", "less_than_equal", "1"),
    "nothing is trained": (
        of_diagnostic("activation_moments/slope", trains_at=0.5, **MOMENTS),
        "/trains_at",
        "not_allowed",
        "leave it out",
    ),
    "a regression has no accuracy": ({**REGRESSION, "trains_at": 0.5}, "/trains_at", "not_allowed", "leave it out"),
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
        of_diagnostic("gradient_norms/total", **against({"diagnostics": GRADIENTS})),
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
        of_diagnostic("gradient_norms/total", {"take": "mean", "over": [1, 39]}, **MEASURING),
        "/estimand/over",
        "never_measured",
        "at no step from 1 to 39",
    ),
    "no number in so shallow a network": (
        of_diagnostic("gradient_norms/hidden_growth", **SHALLOW),
        "/estimand/metric",
        "no_such_series",
        "No arm has a number for diagnostics/gradient_norms/hidden_growth; it takes 4 layers of weights behind one "
        "another, and there are 2",
    ),
    "no number in one of them": (
        of_diagnostic("gradient_norms/growth", **against_deep({"network": {"hidden": [8]}, "diagnostics": GRADIENTS})),
        "/estimand/metric",
        "no_such_series",
        "bn has no number for diagnostics/gradient_norms/growth; it takes 3 layers",
    ),
    "a drift that is looked at once": (
        of_diagnostic("covariate_shift/last_drift", **measuring({"kind": "covariate_shift", "at": [5]})),
        "/estimand/metric",
        "no_such_series",
        "since the time before; measure twice",
    ),
    "a drift at the first look": (
        of_diagnostic(
            "covariate_shift/last_drift",
            {"take": "mean", "over": [0, 9]},
            **measuring({"kind": "covariate_shift", "every_steps": 10}),
        ),
        "/estimand/over",
        "never_measured",
        "at no step from 0 to 9",
    ),
    "an accuracy of the end in the middle": (
        of_diagnostic(
            "norm_health/accuracy_batch",
            {"take": "mean", "over": [0, 19], "higher_is_better": True},
            compare={name: changed({**norm, **OFTEN}) for name, norm in HEALTHY},
        ),
        "/estimand/over",
        "never_measured",
        "at no step from 0 to 19",
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
        "Would leave no number for",
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


@pytest.mark.parametrize("name", ["  ", "a/b", "a~b", "", "x" * 65, "a\nb"])
def test_a_name_that_nobody_can_read_or_point_to_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        load_comparison({"compare": {"baseline": SPEC, name: changed(BN)}, "delta": 0.01})
