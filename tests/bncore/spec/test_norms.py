"""Every normalization in every network: accepted, or refused at the POST with the field and the reason."""

import pytest

from bncore.networks import build_network
from bncore.spec import Fault, NetworkSpec, NormSpec, SpecError, load_spec, members
from bncore.spec.network.recurrent import RecurrentSpec
from bncore.spec.norm import Place
from tests.norm_specs import FITTING, admitted, network_with

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
TRANSFORMER: dict[str, list[tuple[str, str]]] = {
    "frozen_batch_norm": [("/network/norm/kind", "nothing_to_freeze")],
    "masked_batch_norm": [("/network/norm/kind", "nothing_to_mask")],
    "cross_iteration_batch_norm": [("/network/norm/kind", "weights_not_in_front")],
    **{
        kind: [("/network/norm/kind", "one_value_per_instance")]
        for kind in ("instance_norm", "batch_instance_norm", "switchable_norm", "filter_response_norm")
    },
}
"""Each step by itself, along 64 features."""
IMAGES = {
    **CNN,
    "group_norm": [("/network/norm/num_groups", "groups_do_not_divide")],
    "evo_norm_s0": [("/network/norm/num_groups", "groups_do_not_divide"), ("/network/activation", "two_activations")],
}
"""What narrow networks of images cannot have. A depthwise one ends in 1280 channels of one value each."""
EXPECTED = {
    "mlp": MLP,
    "cnn": CNN,
    "residual_mlp": MLP,
    "vgg": IMAGES,
    "resnet": IMAGES,
    "resnet_v2": {**IMAGES, "cross_iteration_batch_norm": [("/network/norm/kind", "weights_not_in_front")]},
    "depthwise": MLP,
    "transformer_encoder": TRANSFORMER,
    "deep_linear": {
        # Its activation is the identity, and its groups are narrow enough for a batch.
        kind: [fault for fault in faults if fault[1] not in ("two_activations", "covariance_is_singular")]
        for kind, faults in MLP.items()
    },
    "layers": IMAGES,
}
KINDS = [member.model_fields["kind"].default for member in members(NormSpec)]


def listed(network: dict[str, object], **others: object) -> list[Fault]:
    try:
        load_spec({"network": network, **others})
    except SpecError as error:
        return error.faults
    return []


def faults(network: dict[str, object], **others: object) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.code) for fault in listed(network, **others)]


@pytest.mark.parametrize(
    "network",
    [member.model_fields["kind"].default for member in members(NetworkSpec) if not issubclass(member, RecurrentSpec)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_takes_every_norm_that_makes_sense_in_it(network: str, kind: str) -> None:
    others = {"patch": 4} if network == "transformer_encoder" else FITTING.get(network, {})
    found = faults({"kind": network, "norm": {"kind": kind}, **others})
    assert sorted(found) == sorted(EXPECTED[network].get(kind, []))


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_network_says_which_of_them_have_a_form_in_it(kind: str) -> None:
    value = {"network": {"kind": "lstm", "norm": {"kind": kind}}, "data": {"kind": "digits", "as": "row"}}
    if kind in ("none", "layer_norm"):
        load_spec(value)
        return
    with pytest.raises(SpecError) as caught:
        load_spec(value)
    [fault] = caught.value.faults
    assert (fault.pointer, fault.code) == ("/network/norm/kind", "no_form_in_a_recurrence")
    assert "step_batch_norm" in fault.detail


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


@pytest.mark.parametrize("kind", ["group_norm", "evo_norm_s0", "iter_norm", "decorrelated_batch_norm"])
@pytest.mark.parametrize("hidden", [[64, 100], [20], [7, 9]], ids=str)
def test_the_groups_that_a_refusal_names_divide_every_layer(kind: str, hidden: list[int]) -> None:
    network = {"kind": "mlp", "hidden": hidden, "activation": "identity"}
    norm = {"kind": kind, "num_groups": 33}
    fault = listed({**network, "norm": norm})[0]
    assert (fault.pointer, fault.code) == ("/network/norm/num_groups", "groups_do_not_divide")
    for groups in fault.detail.partition("; try ")[2].split(", "):
        assert faults({**network, "norm": {**norm, "num_groups": int(groups)}}, train={"batch_size": 600}) == []


@pytest.mark.parametrize("kind", ["group_norm", "evo_norm_s0"])
def test_a_layer_too_narrow_for_a_single_group_is_what_is_at_fault(kind: str) -> None:
    network = {"kind": "mlp", "hidden": [8, 1], "activation": "identity", "norm": {"kind": kind, "num_groups": 1}}
    assert faults(network) == [("/network/hidden/1", "one_value_per_group")]


def test_cross_iteration_needs_the_weights_right_in_front() -> None:
    network = {"kind": "cnn", "norm": {"kind": "cross_iteration_batch_norm"}, "placement": "after_activation"}
    assert faults(network) == [("/network/placement", "weights_not_in_front")]


def test_units_with_one_weight_cannot_be_standardized() -> None:
    network = {"kind": "cnn", "channels": [4], "kernel_size": 1, "norm": {"kind": "weight_standardization"}}
    assert faults(network) == [("/network/norm/kind", "one_weight_per_unit")]
    assert faults({**network, "kernel_size": 3}) == []


@pytest.mark.parametrize(
    "network",
    [
        {"kind": "residual_mlp", "width": 1, "placement": "after_sum"},
        {"kind": "resnet_v2", "width": 1, "depth": 11, "block": "bottleneck"},
        {
            "kind": "layers",
            "layers": [
                {"kind": "conv", "width": 3, "kernel_size": 1},
                {"kind": "activation"},
                {"kind": "norm"},
                {"kind": "flatten"},
            ],
        },
    ],
    ids=lambda network: network["kind"],
)
def test_units_with_one_weight_are_found_where_no_norm_is_right_behind_them(network: dict[str, object]) -> None:
    for norm, field in (("weight_standardization", "kind"), ("moving_average_batch_norm", "center_weights")):
        (fault,) = listed({**network, "norm": {"kind": norm}})
        assert fault.code == "one_weight_per_unit"
        assert fault.pointer in (f"/network/norm/{field}", "/network/layers/0")
    assert faults({**network, "norm": {"kind": "weight_norm"}}) == []


def test_units_with_one_weight_cannot_be_centred() -> None:
    network = {"kind": "cnn", "channels": [4], "kernel_size": 1}
    norm = {"kind": "moving_average_batch_norm"}
    assert faults({**network, "norm": norm}) == [("/network/norm/center_weights", "one_weight_per_unit")]
    assert faults({**network, "norm": {**norm, "center_weights": False}}) == []


def test_the_cure_for_units_with_one_weight_is_one_where_there_is_no_kernel() -> None:
    network = {"kind": "mlp", "hidden": [1, 1], "norm": {"kind": "weight_standardization"}}
    (fault,) = listed(network)
    assert "wider layers" in fault.detail
    assert faults({**network, "hidden": [2, 2]}) == []


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
    (fault,) = listed({"kind": "mlp", "norm": norm}, train={"batch_size": 1170})
    assert (fault.pointer, fault.code) == ("/network/norm/num_groups", "covariance_is_singular")
    assert fault.detail.endswith("use more groups, or another batch size or drop_last")
    assert faults({"kind": "mlp", "norm": norm}, train={"batch_size": 1170, "drop_last": True}) == []


@pytest.mark.parametrize("batch_size", [1, 1199])
def test_power_norm_of_one_value_is_refused_while_it_warms_up(batch_size: int) -> None:
    """By its own square alone a value keeps its sign only."""
    train = {"batch_size": batch_size}
    network = {"kind": "mlp", "norm": {"kind": "power_norm"}}
    assert faults(network, train=train) == [("/train/batch_size", "one_value_per_channel")]
    assert faults({**network, "norm": {"kind": "power_norm", "warmup_steps": 0}}, train=train) == []
    assert faults({**network, "kind": "cnn"}, train=train) == []


def test_filter_response_of_one_value_is_refused_with_the_way_out() -> None:
    network = {"kind": "mlp", "activation": "identity", "norm": {"kind": "filter_response_norm"}}
    (fault,) = listed(network)
    assert "use learn_eps" in fault.detail


@pytest.mark.parametrize(
    ("network", "pointer"),
    [
        (
            {"kind": "mlp", "hidden": [5000, 5000], "norm": {"kind": "cross_iteration_batch_norm", "window": 64}},
            "/network/norm/window",
        ),
        (
            {"kind": "cnn", "channels": [40_000], "kernel_size": 1, "norm": {"kind": "iter_norm"}},
            "/network/norm/num_groups",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_statistics_that_no_checkpoint_could_carry_are_refused(network: dict[str, object], pointer: str) -> None:
    (fault,) = listed(network, train={"batch_size": 1200, "steps": 1})
    assert (fault.pointer, fault.code) == (pointer, "too_much_state")
    small = {"window": 2} if pointer.endswith("window") else {"num_groups": 40}
    smaller = {**network, "norm": {"kind": network["norm"]["kind"], **small}}
    assert faults(smaller, train={"batch_size": 1200, "steps": 1}) == []


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_the_state_that_a_norm_counts_is_what_its_layer_keeps(network: str) -> None:
    widths, fan_in = {"mlp": ("hidden", 8 * 8), "cnn": ("channels", 3 * 3)}[network]
    place = Place("norm1", 40, 8 * 8, fan_in, "relu", "before_activation")
    for kind in admitted(network):
        spec = load_spec({"network": network_with(network, kind, **{widths: [40]})}).network
        built = build_network(spec, (1, 8, 8), 10, device="meta")
        kept = sum(buffer.numel() for name, buffer in built.named_buffers() if name.startswith("norm"))
        # Two vectors of running statistics and some counts are not worth counting.
        assert spec.norm.state(place) <= kept <= spec.norm.state(place) + 2 * 40 + 2, kind


@pytest.mark.parametrize("norm", ["batch_norm", "group_norm", "iter_norm"])
def test_an_eps_that_is_zero_in_single_precision_is_refused(norm: str) -> None:
    (fault,) = faults({"kind": "mlp", "norm": {"kind": norm, "eps": 1e-46}})
    assert fault == ("/network/norm/eps", "greater_than_equal")


def test_what_is_wrong_with_every_layer_is_said_once() -> None:
    assert len(faults({"kind": "mlp", "hidden": [100] * 5, "norm": {"kind": "instance_norm"}})) == 1
