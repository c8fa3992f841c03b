"""What may be evaluated with what: everything else is refused with the field at fault, and why."""

from typing import Any

import pytest

from bncore.norm import build_norm
from bncore.norm.model.found import has_batch_statistics
from bncore.spec import ExperimentSpec, NormSpec, SpecError, load_spec, members
from bncore.spec.evaluation import evaluation_faults, load_evaluation

MLP: dict[str, Any] = {"kind": "mlp", "hidden": [4], "norm": {"kind": "batch_norm"}}
SEQUENCES = {"kind": "variable_length", "classes": 4, "max_length": 8, "test_examples": 50}


def rnn(norm: str, **parts: Any) -> ExperimentSpec:
    return load_spec({"data": SEQUENCES, "network": {"kind": "rnn", "norm": {"kind": norm}}, **parts})


def digits(norm: dict[str, Any] | None = None) -> ExperimentSpec:
    return load_spec({"network": {**MLP, "norm": norm or {"kind": "batch_norm"}}})


def faults(experiment: ExperimentSpec, **asked: Any) -> list[tuple[str, str, str]]:
    evaluation = load_evaluation({"data": {"kind": "digits"}, **asked})
    return [(fault.pointer, fault.code, fault.detail) for fault in evaluation_faults(evaluation, experiment)]


def test_an_evaluation_is_complete_and_valid_again_as_it_is_stored() -> None:
    evaluation = load_evaluation({"data": {"kind": "digits"}, "statistics": "tent"})
    stored = evaluation.model_dump(mode="json")
    assert stored["statistics"] == {
        "kind": "tent",
        "batch_size": 200,
        "order": "shuffled",
        "seed": 0,
        "lr": 0.001,
        "steps": 1,
    }
    assert (stored["checkpoint"], stored["part"], stored["resources"]) == (
        *("best", "test"),
        {"device": "auto", "threads": 1},
    )
    assert load_evaluation(stored) == evaluation


@pytest.mark.parametrize("statistics", ["source", "adabn", "prediction_time", "precise", "tent"])
def test_what_fits_is_accepted(statistics: str) -> None:
    assert faults(digits(), statistics=statistics) == []


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"statistics": "adabm"}, "/statistics/kind", "unknown_kind"),
        ({"statistics": {"kind": "tent", "rate": 1}}, "/statistics/rate", "unknown_field"),
        ({"checkpoint": "newest"}, "/checkpoint", "not_a_checkpoint"),
        ({"part": "all"}, "/part", "literal_error"),
        ({"data": {"kind": "digitz"}}, "/data/kind", "unknown_kind"),
    ],
)
def test_what_cannot_be_read_is_refused(asked: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_evaluation({"data": {"kind": "digits"}, **asked})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


def test_data_of_another_shape_are_refused_and_both_shapes_are_named() -> None:
    ((pointer, code, detail),) = faults(digits(), data={"kind": "mnist5k"})
    assert (pointer, code) == ("/data", "signal_does_not_fit")
    assert "an image of 1x8x8" in detail
    assert "an image of 1x28x28" in detail


def test_another_task_or_other_classes_are_refused() -> None:
    ((_, code, detail),) = faults(rnn("sequence_batch_norm"), data={**SEQUENCES, "tag": True})
    assert code == "task_does_not_fit"
    assert "classification" in detail
    assert "tagging" in detail
    linear = load_spec({"data": {"kind": "santurkar_linear"}, "network": {"kind": "deep_linear"}})
    given = faults(linear, data={"kind": "santurkar_linear", "features": 3})
    assert [code for _, code, _ in given] == ["signal_does_not_fit", "outputs_do_not_fit"]
    assert "10 numbers to predict, and these data have 3" in given[1][2]


def test_a_part_that_the_data_have_not_is_refused() -> None:
    assert [found[:2] for found in faults(digits(), part="validation")] == [("/part", "no_such_part")]
    held_out = {"kind": "digits", "validation": {"share": 0.1}}
    assert faults(digits(), data=held_out, part="validation") == []


@pytest.mark.parametrize(
    ("norm", "statistics", "pointer", "code"),
    [
        ({"kind": "layer_norm"}, "adabn", "/statistics", "no_batch_statistics"),
        ({"kind": "none"}, "precise", "/statistics", "no_batch_statistics"),
        ({"kind": "batch_norm", "affine": False}, "tent", "/statistics", "nothing_to_adapt"),
        (None, {"kind": "prediction_time", "batch_size": 1}, "/statistics/batch_size", "one_value_per_channel"),
        (None, {"kind": "tent", "batch_size": 1}, "/statistics/batch_size", "one_value_per_channel"),
        (
            None,
            {"kind": "adabn", "sequential": False, "batch_size": 1},
            "/statistics/batch_size",
            "one_value_per_channel",
        ),
    ],
)
def test_statistics_that_would_change_nothing_or_cannot_be_are_refused(
    norm: Any, statistics: Any, pointer: str, code: str
) -> None:
    assert [found[:2] for found in faults(digits(norm), statistics=statistics)] == [(pointer, code)]


def test_a_blend_with_the_running_statistics_may_be_of_single_examples() -> None:
    assert faults(digits(), statistics={"kind": "prediction_time", "batch_size": 1, "alpha": 0.1}) == []


def test_statistics_of_steps_that_depend_on_themselves_take_one_pass() -> None:
    experiment = rnn("step_batch_norm")
    assert [found[1] for found in faults(experiment, data=SEQUENCES, statistics="adabn")] == [
        "statistics_depend_on_themselves"
    ]
    assert faults(experiment, data=SEQUENCES, statistics={"kind": "adabn", "sequential": False}) == []


def test_a_regression_has_no_entropy_and_tags_no_class_of_examples() -> None:
    data = {"kind": "santurkar_linear", "test_examples": 40}
    network = {"kind": "mlp", "norm": {"kind": "batch_norm"}}
    regression = load_spec({"data": data, "network": network})
    assert [found[1] for found in faults(regression, data=data, statistics="tent")] == ["no_entropy"]
    by_class = {"kind": "prediction_time", "order": "by_class"}
    assert [found[:2] for found in faults(regression, data=data, statistics=by_class)] == [
        ("/statistics/order", "no_class_of_examples")
    ]


def test_the_specs_that_say_so_are_those_whose_layers_average_statistics_of_batches() -> None:
    said, true = set(), set()
    for member in members(NormSpec):
        spec: Any = member()
        layer = build_norm(spec, 64)
        said |= {spec.kind} if spec.has_running_statistics else set()
        true |= {spec.kind} if layer is not None and has_batch_statistics(layer) else set()
    assert said == true
    assert {"batch_norm", "power_norm", "evo_norm_b0"} < said
