"""Every normalization in every network: accepted, or refused at the POST with the field and the reason."""

import pytest

from bncore.spec import NetworkSpec, NormSpec, SpecError, load_spec, members

MLP: dict[str, list[tuple[str, str]]] = {
    "frozen_batch_norm": [("/network/norm/kind", "nothing_to_freeze")],
    "masked_batch_norm": [("/network/norm/kind", "nothing_to_mask")],
    "instance_norm": [("/network/norm/kind", "one_value_per_instance")],
    "batch_instance_norm": [("/network/norm/kind", "one_value_per_instance")],
    "switchable_norm": [("/network/norm/kind", "one_value_per_instance")],
    "filter_response_norm": [
        ("/network/norm/kind", "one_value_per_instance"),
        ("/network/activation", "two_activations"),
    ],
    "evo_norm_b0": [("/network/activation", "two_activations")],
    "evo_norm_s0": [("/network/norm/num_groups", "groups_do_not_divide"), ("/network/activation", "two_activations")],
    "group_norm": [("/network/norm/num_groups", "groups_do_not_divide")],
    "decorrelated_batch_norm": [("/network/norm/num_groups", "covariance_is_singular")],
    "iter_norm": [("/network/norm/num_groups", "covariance_is_singular")],
}
"""What the default MLP (three layers of 100 ReLU units, batches of 60) cannot have with default options."""

CNN: dict[str, list[tuple[str, str]]] = {
    "frozen_batch_norm": [("/network/norm/kind", "nothing_to_freeze")],
    "masked_batch_norm": [("/network/norm/kind", "nothing_to_mask")],
    "filter_response_norm": [("/network/activation", "two_activations")],
    "evo_norm_b0": [("/network/activation", "two_activations")],
    "evo_norm_s0": [("/network/activation", "two_activations")],
}
KINDS = [member.model_fields["kind"].default for member in members(NormSpec)]


def faults(network: dict[str, object], **others: object) -> list[tuple[str, str]]:
    try:
        load_spec({"network": network, **others})
    except SpecError as error:
        return [(fault.pointer, fault.code) for fault in error.faults]
    return []


@pytest.mark.parametrize("network", [member.model_fields["kind"].default for member in members(NetworkSpec)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_takes_every_norm_that_makes_sense_in_it(network: str, kind: str) -> None:
    expected = {"mlp": MLP, "cnn": CNN}[network].get(kind, [])
    assert faults({"kind": network, "norm": {"kind": kind}}) == expected


@pytest.mark.parametrize(
    ("norm", "others"),
    [
        ({"kind": "filter_response_norm", "learn_eps": True}, {"activation": "identity"}),
        ({"kind": "filter_response_norm", "learn_eps": True, "threshold": False}, {}),
        ({"kind": "evo_norm_b0"}, {"activation": "identity"}),
        ({"kind": "evo_norm_s0", "num_groups": 10}, {"activation": "identity"}),
        ({"kind": "group_norm", "num_groups": 10}, {}),
        ({"kind": "decorrelated_batch_norm", "num_groups": 2}, {}),
        ({"kind": "iter_norm", "num_groups": 4}, {}),
        ({"kind": "domain_batch_norm", "num_domains": 1}, {}),
        ({"kind": "lp_batch_norm", "p": "inf"}, {}),
    ],
    ids=str,
)
def test_what_was_refused_is_accepted_once_the_reason_is_gone(
    norm: dict[str, object], others: dict[str, object]
) -> None:
    assert faults({"kind": "mlp", "norm": norm, **others}) == []


@pytest.mark.parametrize(
    ("norm", "fault"),
    [
        ({"kind": "domain_batch_norm", "num_domains": 2}, ("/network/norm/num_domains", "one_domain_only")),
        (
            {"kind": "ghost_batch_norm", "virtual_batch_size": 1},
            ("/network/norm/virtual_batch_size", "one_value_per_virtual_batch"),
        ),
        ({"kind": "lp_batch_norm", "p": 3}, ("/network/norm/p", "literal_error")),
        ({"kind": "lp_batch_norm", "p": True}, ("/network/norm/p", "int_type")),
        ({"kind": "lp_batch_norm", "p": 1.0}, ("/network/norm/p", "int_type")),
        ({"kind": "noisy_batch_norm", "std_range": 0.5}, ("/network/norm/std_range", "greater_than_equal")),
        ({"kind": "iter_norm", "iterations": 0}, ("/network/norm/iterations", "greater_than_equal")),
        ({"kind": "batch_norm", "num_groups": 2}, ("/network/norm/num_groups", "unknown_field")),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(norm: dict[str, object], fault: tuple[str, str]) -> None:
    assert faults({"kind": "mlp", "norm": norm}) == [fault]


def test_cross_iteration_needs_the_weights_right_in_front() -> None:
    network = {"kind": "cnn", "norm": {"kind": "cross_iteration_batch_norm"}, "placement": "after_activation"}
    assert faults(network) == [("/network/placement", "weights_not_in_front")]


def test_units_with_one_weight_cannot_be_standardized() -> None:
    network = {"kind": "cnn", "channels": [4], "kernel_size": 1, "norm": {"kind": "weight_standardization"}}
    assert faults(network) == [("/network/norm/kind", "one_weight_per_unit")]
    assert faults({**network, "kernel_size": 3}) == []


@pytest.mark.parametrize(
    "norm", [kind for kind in KINDS if kind not in MLP and "batch" in kind and kind != "cross_iteration_batch_norm"]
)
def test_statistics_of_one_value_are_refused_whatever_the_norm(norm: str) -> None:
    found = faults({"kind": "mlp", "norm": {"kind": norm}}, train={"batch_size": 1199})
    assert found == [("/train/batch_size", "one_value_per_channel")]


def test_a_covariance_needs_more_values_than_channels_in_the_last_batch_too() -> None:
    norm = {"kind": "iter_norm", "num_groups": 2}
    assert faults({"kind": "mlp", "norm": norm}, train={"batch_size": 1140}) == []
    # 1200 = 1170 + 30: fewer than the 50 channels of a group.
    found = faults({"kind": "mlp", "norm": norm}, train={"batch_size": 1170})
    assert found == [("/network/norm/num_groups", "covariance_is_singular")]


def test_what_is_wrong_with_every_layer_is_said_once() -> None:
    assert len(faults({"kind": "mlp", "hidden": [100] * 5, "norm": {"kind": "instance_norm"}})) == 1
