"""A network written as a list: what it computes, and refusals that name the layer of the list."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize

from bncore.networks import build_network
from bncore.spec import Fault, SpecError, load_spec, plan

FLATTEN = {"kind": "flatten"}


def listed(*layers: Any, **network: Any) -> dict[str, Any]:
    return {"network": {"kind": "layers", "layers": list(layers), **network}}


def fault(*layers: Any, **network: Any) -> Fault:
    with pytest.raises(SpecError) as caught:
        load_spec(listed(*layers, **network))
    [found] = caught.value.faults
    return found


def test_a_list_computes_what_it_says() -> None:
    body = [{"kind": "conv", "width": 6, "stride": 2, "groups": 2, "bias": False}, {"kind": "norm"}]
    document = listed(
        {"kind": "conv", "width": 4, "kernel_size": 5},
        {"kind": "activation", "activation": "tanh"},
        {"kind": "pool", "how": "average", "size": 3, "stride": 1},
        {"kind": "residual", "body": body, "shortcut": [{"kind": "subsample", "width": 6}]},
        FLATTEN,
        {"kind": "linear", "width": 5},
        {"kind": "activation"},
        norm={"kind": "layer_norm"},
        activation="gelu",
    )
    network = build_network(load_spec(document).network, (1, 8, 8), 10, seed=3).double()
    state = network.state_dict()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    y = torch.tanh(F.conv2d(x, state["layers.0.weight"], state["layers.0.bias"], padding=2))
    y = F.avg_pool2d(y, 3, 1, 1)
    body = F.layer_norm(F.conv2d(y, state["layers.3.body.0.weight"], stride=2, padding=1, groups=2), (6, 4, 4))
    y = (body + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))).flatten(1)
    y = F.gelu(F.linear(y, state["layers.5.weight"], state["layers.5.bias"]))
    torch.testing.assert_close(network(x), F.linear(y, state["output.weight"], state["output.bias"]))


def test_what_a_layer_leaves_open_is_the_networks() -> None:
    layers = [FLATTEN, {"kind": "linear", "width": 8}, {"kind": "norm"}, {"kind": "activation"}, {"kind": "dropout"}]
    own = {"kind": "norm", "norm": {"kind": "rms_norm"}}

    def kinds(*more: Any, **network: Any) -> list[str]:
        return [layer.kind for layer in plan(load_spec(listed(*layers, *more, **network))).layers]

    assert kinds() == ["flatten", "linear", "batch_norm", "relu", "linear"]
    assert kinds(norm={"kind": "none"}, dropout=0.5) == ["flatten", "linear", "relu", "dropout", "linear"]
    assert kinds(own, norm_positions=["logits"]) == ["flatten", "linear", "relu", "rms_norm", "linear", "batch_norm"]


def test_a_norm_of_weights_is_that_of_the_weights_in_front() -> None:
    weights = {"kind": "norm", "norm": {"kind": "weight_norm"}}
    linear = {"kind": "linear", "width": 8}
    document = listed(FLATTEN, linear, {"kind": "activation"}, weights, linear, {"kind": "norm"})
    network = build_network(load_spec(document).network, (1, 8, 8), 10)
    wrapped = [name for name, layer in network.named_modules() if parametrize.is_parametrized(layer)]
    assert wrapped == ["layers.1"]


@pytest.mark.parametrize(
    ("layers", "pointer", "code", "words"),
    [
        ([{"kind": "linear", "width": 3}], "/0", "not_a_vector", "meets an image of 1x8x8; flatten first"),
        ([{"kind": "conv", "width": 4}], "", "not_a_vector", "meets an image of 4x8x8; flatten first"),
        ([FLATTEN, {"kind": "conv", "width": 4}], "/1", "not_an_image", "takes an image, and meets a vector of 64"),
        ([FLATTEN, {"kind": "global_pool"}], "/1", "not_an_image", "takes an image, and meets a vector of 64"),
        ([*[{"kind": "pool"}] * 4, FLATTEN], "/3", "image_too_small", "would pool a 1x1 image; leave it out"),
        ([{"kind": "conv", "width": 6, "groups": 3}, FLATTEN], "/0/groups", "groups_do_not_divide", "a divisor of 1"),
        ([{"kind": "subsample", "width": 0}], "/0/width", "greater_than_equal", "1"),
        (
            [{"kind": "conv", "width": 4}, {"kind": "subsample", "width": 2}, FLATTEN],
            "/1", "too_many_channels", "up to 2, and meets an image of 4x8x8",
        ),
        (
            [{"kind": "residual", "body": [{"kind": "conv", "width": 3}]}, FLATTEN],
            "/0", "shapes_do_not_match", "would add 3x8x8 from its body and 1x8x8 from its shortcut",
        ),
        (
            [{"kind": "residual", "body": [{"kind": "residual", "body": [{"kind": "linear", "width": 3}]}]}],
            "/0/body/0/body/0", "not_a_vector", "flatten first",
        ),
        ([{"kind": "residual", "body": [{"kind": "cnov", "width": 3}]}], "/0/body/0/kind", "unknown_kind", "conv"),
        ([{"kind": "residual", "body": []}], "/0/body", "too_short", "at least 1 item"),
        (
            [{"kind": "global_pool"}, {"kind": "norm", "norm": {"kind": "layer_norm"}}, FLATTEN],
            "/1", "one_value_per_sample", "would see one value per sample, and erase it",
        ),
        (
            [FLATTEN, {"kind": "linear", "width": 1}, {"kind": "norm", "norm": {"kind": "layer_norm"}}],
            "/1/width", "one_value_per_sample", "layers.2 would see one value per sample",
        ),
        (
            [FLATTEN, {"kind": "norm", "norm": {"kind": "instance_norm"}}],
            "/1/norm/kind", "one_value_per_instance", "which it would erase",
        ),
        (
            [{"kind": "norm", "norm": {"kind": "weight_norm"}}, FLATTEN],
            "/0", "weights_not_in_front", "no layer with weights is in front",
        ),
        (
            [FLATTEN, {"kind": "linear", "width": 4}, *[{"kind": "norm", "norm": {"kind": "weight_norm"}}] * 2],
            "/1", "two_norms_of_weights", "leave one of them out",
        ),
        (
            [
                {"kind": "conv", "width": 4},
                {"kind": "activation"},
                {"kind": "norm", "norm": {"kind": "cross_iteration_batch_norm"}},
                FLATTEN,
            ],
            "/2/norm/kind", "weights_not_in_front", "use batch_norm",
        ),
        (
            [{"kind": "norm", "norm": {"kind": "evo_norm_b0"}}, {"kind": "activation", "activation": "relu"}, FLATTEN],
            "/1/activation", "two_activations", "set activation to identity",
        ),
        ([FLATTEN] * 201, "", "too_long", "at most 200 items"),
        ([3], "/0", "not_an_object", '{"kind": "linear"}'),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_wrong_is_said_of_the_layer_in_the_list(layers: list[Any], pointer: str, code: str, words: str) -> None:
    found = fault(*layers)
    assert (found.pointer, found.code) == (f"/network/layers{pointer}", code)
    assert words in found.detail


def test_the_networks_own_norm_is_blamed_where_the_list_takes_it() -> None:
    activated = [{"kind": "norm"}, {"kind": "activation"}, FLATTEN]
    assert fault(*activated, norm={"kind": "evo_norm_b0"}).pointer == "/network/activation"
    norm = {"kind": "group_norm", "num_groups": 3}
    assert fault(*activated, norm=norm).pointer == "/network/norm/num_groups"


def test_lists_are_bounded_in_depth_and_number() -> None:
    nested: list[Any] = [{"kind": "activation"}]
    for _ in range(5):
        nested = [{"kind": "residual", "body": nested}]
    assert fault(*nested, FLATTEN).code == "too_deep"
    load_spec(listed(*nested[0]["body"], FLATTEN))
    block = {"kind": "residual", "body": [{"kind": "activation"}] * 200}
    assert fault(*[block] * 5, FLATTEN).code == "too_many_layers"
