"""What networks of sequences cannot be told, and where it is said."""

from typing import Any

import pytest

from bncore.spec import SpecError, load_spec


@pytest.mark.parametrize(
    ("network", "data", "expected"),
    [
        ({"kind": "lstm"}, {"kind": "digits"}, ("/network/kind", "signal_does_not_fit")),
        ({"kind": "mlp"}, {"kind": "variable_length"}, ("/network/kind", "signal_does_not_fit")),
        ({"kind": "lstm", "dropout": 0.5}, None, ("/network/dropout", "dropout_without_effect")),
        ({"kind": "lstm", "bias": False, "forget_bias": 1.0}, None, ("/network/forget_bias", "no_bias_to_set")),
        ({"kind": "lstm", "norm": {"kind": "batch_renorm"}}, None, ("/network/norm/kind", "no_form_in_a_recurrence")),
        ({"kind": "gru", "hidden": [4, 1], "norm": {"kind": "layer_norm"}}, None,
         ("/network/hidden/1", "one_value_per_sample")),
        ({"kind": "lstm", "hidden": [1000], "norm": {"kind": "step_batch_norm", "max_steps": 1_000_000}}, None,
         ("/network/norm/max_steps", "too_much_state")),
        ({"kind": "lstm", "hidden": [60_000]}, None, ("/network/hidden", "too_many_parameters")),
        ({"kind": "rnn", "output": "each_step"}, None, ("/network/output", "task_does_not_fit")),
        ({"kind": "rnn", "output": "mean"}, {"kind": "variable_length", "tag": True},
         ("/network/kind", "task_does_not_fit")),
        ({"kind": "transformer_encoder", "heads": 5}, None, ("/network/heads", "heads_do_not_divide")),
        ({"kind": "transformer_encoder"}, {"kind": "digits"}, ("/network/patch", "patch_missing")),
        ({"kind": "transformer_encoder", "patch": 3}, {"kind": "digits"}, ("/network/patch", "patches_do_not_divide")),
        ({"kind": "transformer_encoder", "patch": 2}, None, ("/network/patch", "no_image")),
        ({"kind": "transformer_encoder", "norm": {"kind": "group_norm", "num_groups": 7}}, None,
         ("/network/norm/num_groups", "groups_do_not_divide")),
        ({"kind": "transformer_encoder", "norm": {"kind": "batch_renorm"}}, None,
         ("/network/norm/kind", "counts_padding")),
        ({"kind": "transformer_encoder", "norm": {"kind": "power_norm"}}, None,
         ("/network/norm/kind", "counts_padding")),
        ({"kind": "transformer_encoder", "norm": {"kind": "instance_norm"}}, None,
         ("/network/norm/kind", "one_value_per_instance")),
        ({"kind": "transformer_encoder", "norm": {"kind": "cross_iteration_batch_norm"}},
         {"kind": "digits", "as": "row"}, ("/network/norm/kind", "weights_not_in_front")),
        ({"kind": "transformer_encoder", "norm": {"kind": "masked_batch_norm"}}, {"kind": "digits", "as": "row"},
         ("/network/norm/kind", "nothing_to_mask")),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_work_is_refused_where_it_stands(
    network: dict[str, Any], data: dict[str, Any] | None, expected: tuple[str, str]
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({"network": network, "data": data or {"kind": "variable_length"}})
    assert expected in [(fault.pointer, fault.code) for fault in caught.value.faults]


@pytest.mark.parametrize("norm", ["step_batch_norm", "sequence_batch_norm"])
def test_batches_of_one_sequence(norm: str) -> None:
    value = {
        "data": {"kind": "digits", "as": "row"},
        "network": {"kind": "lstm", "norm": {"kind": norm}},
        "train": {"batch_size": 1, "steps": 2},
    }
    if norm == "sequence_batch_norm":
        load_spec(value)
        return
    with pytest.raises(SpecError) as caught:
        load_spec(value)
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [
        ("/train/batch_size", "one_value_per_channel")
    ]
