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


@pytest.mark.parametrize(
    ("network", "expected", "said"),
    [
        ({"kind": "lstm", "norm_positions": ["cel"]}, ("/network/norm_positions/0", "unknown_position"), "mean cell?"),
        ({"kind": "gru", "norm_positions": ["hh", "input"]}, ("/network/norm_positions/0", "unknown_position"),
         "mean hidden_to_hidden?"),
        ({"kind": "transformer_encoder", "norm_positions": ["ffn"]},
         ("/network/norm_positions/0", "unknown_position"), "mean mlp?"),
        ({"kind": "rnn", "norms_at": {"inputs_to_hidden": {"kind": "none"}}},
         ("/network/norms_at/inputs_to_hidden", "unknown_position"), "mean input_to_hidden?"),
        ({"kind": "gru", "norm_positions": ["cell"]}, ("/network/norm_positions/0", "no_such_position"), "lstm"),
        ({"kind": "rnn", "norms_at": {"cell": {}}}, ("/network/norms_at/cell", "no_such_position"), "use sum"),
        ({"kind": "gru", "norms_at": {"sum": {"kind": "none"}}}, ("/network/norms_at/sum", "no_such_position"), "gate"),
        ({"kind": "lstm", "norm_positions": ["cell", "cell"]}, ("/network/norm_positions", "position_twice"), "once"),
        ({"kind": "lstm", "norm_positions": ["cell"], "norms_at": {"cell": {"kind": "none"}}},
         ("/network/norms_at/cell", "two_ways_to_say_it"), "leave one"),
        ({"kind": "lstm", "norm_positions": ["input"], "normalize_input": False},
         ("/network/norm_positions", "two_ways_to_say_it"), "normalize_input"),
        ({"kind": "lstm", "norm": {"kind": "sequence_batch_norm"}, "norm_positions": ["cell"]},
         ("/network/norm_positions", "norm_cannot_stand_here"), "use step_batch_norm"),
        ({"kind": "gru", "norms_at": {"hidden_to_hidden": {"kind": "sequence_batch_norm"}}},
         ("/network/norms_at/hidden_to_hidden/kind", "norm_cannot_stand_here"), "use step_batch_norm"),
        ({"kind": "gru", "norms_at": {"hidden_to_hidden": {"kind": "batch_renorm"}}},
         ("/network/norms_at/hidden_to_hidden/kind", "no_form_in_a_recurrence"), "use sequence_batch_norm"),
        ({"kind": "gru", "norms_at": {"head": {"kind": "step_batch_norm"}}},
         ("/network/norms_at/head/kind", "not_in_a_recurrence"), "batch_norm"),
        ({"kind": "lstm", "norm_positions": ["head"]}, ("/network/norm_positions", "not_in_a_recurrence"),
         "norms_at.head"),
        ({"kind": "lstm", "norms_at": {"between_layers": {"kind": "layer_norm"}}},
         ("/network/norms_at/between_layers/kind", "norm_without_effect"), "second layer"),
        ({"kind": "lstm", "norms_at": {"head": {"kind": "weight_norm"}}},
         ("/network/norms_at/head/kind", "no_weights_here"), "logits"),
        ({"kind": "transformer_encoder", "norms_at": {"final": {"kind": "spectral_norm"}}},
         ("/network/norms_at/final/kind", "no_weights_here"), "attention"),
        ({"kind": "transformer_encoder", "norm": {"kind": "weight_norm"}, "norm_positions": ["final"]},
         ("/network/norm_positions", "no_weights_here"), "attention"),
        ({"kind": "transformer_encoder", "norms_at": {"mlp": {"kind": "group_norm", "num_groups": 7}}},
         ("/network/norms_at/mlp/num_groups", "groups_do_not_divide"), "try"),
        ({"kind": "gru", "hidden": [6, 1], "norms_at": {"head": {"kind": "layer_norm"}}},
         ("/network/hidden/1", "one_value_per_sample"), "erase"),
        ({"kind": "rnn", "hidden": [6, 1], "norms_at": {"sum": {"kind": "layer_norm"}}},
         ("/network/hidden/1", "one_value_per_sample"), "2 hidden units"),
        ({"kind": "lstm", "norms_at": {"logits": {"kind": "masked_batch_norm"}}},
         ("/network/norms_at/logits/kind", "nothing_to_mask"), "batch_norm"),
        ({"kind": "lstm", "norms_at": {"cell": {"kind": "step_batch_norm", "max_steps": 1_000_000},
                                      "head": {"kind": "batch_norm"}}},
         ("/network/norms_at/cell/max_steps", "too_much_state"), "fewer"),
    ],
    ids=str,
)  # fmt: skip
def test_a_norm_that_cannot_stand_where_it_is_put_is_refused_with_what_would_be_right(
    network: dict[str, Any], expected: tuple[str, str], said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({"network": network, "data": {"kind": "variable_length"}})
    [fault] = caught.value.faults
    assert (fault.pointer, fault.code) == expected
    assert said in fault.detail


def test_positions_are_shown_in_the_order_of_the_signal_and_read_back_the_same() -> None:
    network = {
        "kind": "lstm",
        "norm_positions": ["cell", "input", "input_to_hidden"],
        "norms_at": {"head": {"kind": "none"}},
    }
    spec = load_spec({"network": network, "data": {"kind": "variable_length"}})
    shown = spec.model_dump(mode="json")
    assert shown["network"]["norm_positions"] == ["input_to_hidden", "cell"]
    assert shown["network"]["normalize_input"] is True
    assert load_spec(shown) == spec


@pytest.mark.parametrize("norm", ["batch_renorm", "power_norm"])
def test_a_padded_sequence_by_itself_may_be_a_single_step(norm: str) -> None:
    value = {
        "data": {"kind": "variable_length"},
        "network": {"kind": "transformer_encoder", "norm": {"kind": norm}},
        "train": {"batch_size": 1, "steps": 2},
    }
    with pytest.raises(SpecError, match="see one value") as caught:
        load_spec(value)
    assert [fault.code for fault in caught.value.faults] == ["one_value_per_channel"]
    load_spec({**value, "train": {"batch_size": 2, "steps": 2}})
    load_spec({**value, "network": {"kind": "transformer_encoder", "norm": {"kind": "batch_norm"}}})


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
