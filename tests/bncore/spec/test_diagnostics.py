"""Which diagnostics a spec may ask for, when they are due, and what is refused or warned of."""

from typing import Any

import pytest

from bncore.spec import SpecError, cautions, kinds, load_spec, plan
from bncore.spec.diagnostics import MOST_MEASUREMENTS

MLP = {"kind": "mlp", "hidden": [8, 8]}


def refused(spec: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as error:
        load_spec(spec)
    return [(fault.pointer, fault.code) for fault in error.value.faults]


def due(asked: dict[str, Any], steps: int) -> list[int]:
    (one, *_) = load_spec({"network": MLP, "train": {"steps": steps}, "diagnostics": [asked]}).diagnostics
    found = [step for step in range(steps + 1) if one.is_due(step, steps) or (step == steps and one.is_due_at_end)]
    assert len(found) == one.measurements(steps)
    return found


def test_norm_health_is_measured_unless_it_is_switched_off() -> None:
    complete = load_spec({}).model_dump(mode="json")
    assert [one["kind"] for one in complete["diagnostics"]] == ["norm_health"]
    assert load_spec(complete).model_dump(mode="json") == complete
    # As it was stored before there were any.
    del complete["diagnostics"]
    assert load_spec(complete) == load_spec({})
    with_others = load_spec({"diagnostics": [{"kind": "weight_norms"}]})
    assert [one.kind for one in with_others.diagnostics] == ["weight_norms", "norm_health"]
    assert due({"kind": "norm_health", "enabled": False}, 5000) == []


@pytest.mark.parametrize(
    ("asked", "steps", "expected"),
    [
        ({"kind": "activation_moments"}, 10, [0]),
        ({"kind": "gradient_norms", "at": [4, 0, 10]}, 10, [0, 4, 10]),
        ({"kind": "step_probe", "every_steps": 4}, 10, [0, 4, 8, 10]),
        ({"kind": "step_probe", "every_steps": 5}, 10, [0, 5, 10]),
        ({"kind": "norm_health"}, 2500, [1000, 2000, 2500]),
        ({"kind": "norm_health"}, 300, [300]),
        ({"kind": "norm_health", "every_steps": 100}, 300, [0, 100, 200, 300]),
        ({"kind": "norm_health", "at": [7]}, 300, [7]),
    ],
)
def test_they_are_due_as_they_were_asked_for(asked: dict[str, Any], steps: int, expected: list[int]) -> None:
    assert due(asked, steps) == expected


def test_in_the_longest_run_there_is_norm_health_stays_few_files() -> None:
    spec = load_spec({"network": MLP, "train": {"steps": 100_000_000}})
    assert spec.diagnostics[0].measurements(100_000_000) <= 100


@pytest.mark.parametrize(
    ("diagnostics", "faults"),
    [
        ([{"kind": "gradient_heat_map"}], [("/diagnostics/0/kind", "unknown_kind")]),
        ([{"kind": "step_probe", "at": [0], "every_steps": 2}], [("/diagnostics/0/at", "two_cadences")]),
        ([{"kind": "step_probe", "at": [3, 3]}], [("/diagnostics/0/at", "repeated_step")]),
        ([{"kind": "step_probe", "at": [0, 101]}], [("/diagnostics/0/at/1", "beyond_budget")]),
        ([{"kind": "step_probe"}] * 2, [("/diagnostics/1/kind", "repeated_kind")]),
        ([{"kind": "hessian_top_eigenvalue", "examples": 1}], [("/diagnostics/0/examples", "greater_than_equal")]),
        ([{"kind": "weight_norms", "examples": 8}], [("/diagnostics/0/examples", "unknown_field")]),
    ],
)
def test_what_cannot_be_measured_is_refused_where_it_stands(
    diagnostics: list[dict[str, Any]], faults: list[tuple[str, str]]
) -> None:
    assert refused({"network": MLP, "train": {"steps": 100}, "diagnostics": diagnostics}) == faults


@pytest.mark.parametrize(
    ("parts", "asked", "fault"),
    [
        ({"train": {"steps": 5000}}, {"kind": "weight_norms", "every_steps": 5}, "/every_steps"),
        ({"data": {"kind": "santurkar_linear"}}, {"kind": "gradient_heatmap"}, "/kind"),
        ({"network": {**MLP, "norm": {"kind": "none"}}}, {"kind": "scale_invariance"}, "/kind"),
        ({"network": {"kind": "lstm"}, "data": {"as": "row"}}, {"kind": "scale_invariance"}, "/kind"),
    ],
)
def test_what_the_network_or_the_data_lack_is_refused_too(
    parts: dict[str, Any], asked: dict[str, Any], fault: str
) -> None:
    ((pointer, _),) = refused({"network": MLP, **parts, "diagnostics": [asked]})
    assert pointer == f"/diagnostics/0{fault}"


def test_the_least_interval_that_a_refusal_names_is_accepted() -> None:
    spec = {"network": MLP, "train": {"steps": 5001}, "diagnostics": [{"kind": "weight_norms", "every_steps": 1}]}
    with pytest.raises(SpecError) as error:
        load_spec(spec)
    least = int(error.value.faults[0].detail.partition("; use ")[2].split()[0])
    accepted = {**spec, "diagnostics": [{"kind": "weight_norms", "every_steps": least}]}
    assert load_spec(accepted).diagnostics[0].measurements(5001) <= MOST_MEASUREMENTS
    assert refused({**spec, "diagnostics": [{"kind": "weight_norms", "every_steps": least - 1}]})


def test_what_would_take_longer_than_training_is_warned_of() -> None:
    spec: dict[str, Any] = {"network": MLP, "train": {"steps": 1000, "batch_size": 64}}

    def said(asked: dict[str, Any]) -> list[tuple[str, str]]:
        found = cautions(load_spec({**spec, "diagnostics": [asked]}))
        costly = [one for one in found if one.code == "costly_diagnostic"]
        assert all(one.detail.startswith(f"{asked['kind']} would take about ") for one in costly)
        return [(one.pointer, one.code) for one in costly]

    # Twenty products with the Hessian, each three times a step of four times its examples.
    assert said({"kind": "hessian_top_eigenvalue", "every_steps": 40}) == [("/diagnostics/0", "costly_diagnostic")]
    assert said({"kind": "hessian_top_eigenvalue", "every_steps": 500}) == []
    assert said({"kind": "activation_moments", "every_steps": 10}) == []
    spec["train"]["steps"] = 1
    assert said({"kind": "norm_health"}) == []
    # Accuracies of all test data by two more kinds of statistics, at the end of six steps.
    spec["train"]["steps"] = 6
    for asked in ({"full": True}, {"at": [6]}, {"every_steps": 6}):
        assert said({"kind": "norm_health", **asked}) == [("/diagnostics/0", "costly_diagnostic")]
    assert said({"kind": "norm_health", "at": [5]}) == said({"kind": "norm_health", "full": False}) == []


def test_every_kind_can_be_asked_for_by_its_name_alone() -> None:
    asked = [{"kind": found.kind} for found in kinds("diagnostics")]
    spec = load_spec({"network": {"kind": "cnn", "channels": [4]}, "diagnostics": asked})
    assert [one.kind for one in spec.diagnostics] == [one["kind"] for one in asked]
    assert all(one.measurements(plan(spec).total_steps) for one in spec.diagnostics)
