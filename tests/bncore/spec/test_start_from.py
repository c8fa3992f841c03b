"""Which checkpoints a network can begin with: of the same network, whatever the data, with the reason if not."""

from typing import Any

import pytest

from bncore.spec import SpecError, load_spec

MLP: dict[str, Any] = {"kind": "mlp", "hidden": [8]}
RESNET: dict[str, Any] = {"kind": "resnet", "depth": 8, "width": 4}
STEPWISE: dict[str, Any] = {"kind": "rnn", "hidden": [4], "norm": {"kind": "step_batch_norm"}}


def sequences(**parts: Any) -> dict[str, Any]:
    return {"kind": "variable_length", "max_length": 8, **parts}


def spec_of(there: dict[str, Any], here: dict[str, Any], **start: Any) -> dict[str, Any]:
    source = {"experiment": f"exp_{32 * '0'}", "step": 5, "sha256": 64 * "0", "data": {"kind": "digits"}, **there}
    return {"start_from": {"checkpoint": f"ckp_{32 * '0'}", "source": source, **start}, **here}


def faults(value: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        load_spec(value)
    except SpecError as error:
        return [(fault.pointer, fault.code) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("there", "here", "start"),
    [
        ({"network": MLP}, {"network": MLP}, {}),
        ({"network": {**MLP, "dropout": 0.5}}, {"network": {**MLP, "init": {"kind": "kaiming"}}}, {}),
        # No layer of it depends on how large images are.
        ({"network": RESNET}, {"network": RESNET, "data": {"kind": "mnist5k"}}, {"freeze": "all_but_head"}),
        (
            {"network": {**STEPWISE, "norm": {"kind": "sequence_batch_norm"}}, "data": sequences()},
            {
                "network": {**STEPWISE, "norm": {"kind": "sequence_batch_norm"}},
                "data": sequences(max_length=20, classes=4),
            },
            {"reset_head": True},
        ),
    ],
)
def test_what_fits_is_accepted(there: Any, here: Any, start: Any) -> None:
    assert faults(spec_of(there, here, **start)) == []


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"network": MLP}, {"network": RESNET}, [("/network/kind", "another_network")]),
        (
            {"network": {**MLP, "activation": "tanh", "norm": {"kind": "batch_renorm"}}},
            {"network": MLP},
            [("/network/activation", "another_network"), ("/network/norm", "another_network")],
        ),
        ({"network": MLP}, {"network": MLP, "data": {"kind": "mnist5k"}}, [("/data", "signal_does_not_fit")]),
        # A layer's parameters are as many, its running statistics are not.
        (
            {"network": STEPWISE, "data": sequences()},
            {"network": STEPWISE, "data": sequences(max_length=9)},
            [("/data", "signal_does_not_fit")],
        ),
        (
            {"network": {**MLP, "norm_positions": []}},
            {"network": {**MLP, "norm_positions": []}},
            [("/start_from/freeze", "nothing_to_freeze")],
        ),
    ],
)
def test_another_network_or_shape_is_refused(there: Any, here: Any, expected: Any) -> None:
    assert faults(spec_of(there, here, freeze="norms")) == expected


def test_another_number_of_classes_needs_a_new_head_and_the_fault_says_both() -> None:
    norm = {"network": {**STEPWISE, "norm": {"kind": "none"}, "output": "each_step"}}
    there = {**norm, "data": {**sequences(classes=4), "tag": True}}
    here = {**norm, "data": {"kind": "variable_length", "max_length": 8, "classes": 4, "tag": True}}
    assert faults(spec_of(there, here)) == []
    linear = {"network": {"kind": "mlp", "hidden": [4]}}
    regression = {"kind": "santurkar_linear", "features": 64}
    with pytest.raises(SpecError) as refused:
        load_spec(spec_of({**linear, "data": {"kind": "digits"}}, {**linear, "data": regression}))
    assert "The checkpoint has 10 outputs, and these data need 64; set it to true" in str(refused.value)
    assert (
        faults(spec_of({**linear, "data": {"kind": "digits"}}, {**linear, "data": regression}, reset_head=True)) == []
    )


def test_a_completed_spec_is_valid_again_and_names_no_other_fields() -> None:
    spec = load_spec(spec_of({"network": MLP}, {"network": MLP}, freeze="norms"))
    assert load_spec(spec.model_dump(mode="json")) == spec
    assert load_spec({}).start_from is None
    with pytest.raises(SpecError) as refused:
        load_spec({"start_from": {"checkpoint": "best", "freeze": "head"}})
    assert {fault.pointer for fault in refused.value.faults} == {"/start_from/checkpoint", "/start_from/freeze"}
