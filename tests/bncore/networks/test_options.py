"""What every network can be told: which layers are normalized, dead biases left out, the scale of what is drawn."""

from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from bncore.networks import build_network
from bncore.spec import InitSpec, NetworkSpec, SpecError, cautions, load_spec, members, plan
from bncore.spec.blueprint import Signal
from bncore.spec.blueprint.layers import ActivationName
from bncore.spec.network.layered import HiddenLayers
from tests.norm_specs import FITTING, admitted, network_with

SHAPE = (1, 8, 8)
MEMBERS = {
    member.model_fields["kind"].default: member for member in members(NetworkSpec) if issubclass(member, HiddenLayers)
}
NETWORKS = list(MEMBERS)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [7, 6]},
    "cnn": {"channels": [4, 6]},
    "residual_mlp": {"width": 6, "blocks": 2},
    **FITTING,
}

HIDDEN = {
    "mlp": 2, "cnn": 2, "residual_mlp": 5, "vgg": 8, "resnet": 7, "resnet_v2": 7, "depthwise": 52, "deep_linear": 2,
    "layers": 2,
}  # fmt: skip
"""Layers with weights, those of shortcuts and the output excepted."""


def spec_of(kind: str, **parts: Any) -> NetworkSpec:
    return load_spec({"network": {"kind": kind, **SMALL[kind], **parts}}).network


def built(kind: str, **parts: Any) -> nn.Sequential:
    return build_network(spec_of(kind, **parts), SHAPE, 10, seed=2)


def refused(**network: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        load_spec({"network": network})
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def normed(kind: str, positions: list[str], norm: str = "layer_norm") -> list[str]:
    layers = plan(
        load_spec({"network": {"kind": kind, **SMALL[kind], "norm": {"kind": norm}, "norm_positions": positions}})
    )
    return [layer.name for layer in layers.layers if layer.kind == norm]


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_position_is_normalized_alone_and_together(kind: str) -> None:
    hidden = normed(kind, ["hidden"])
    assert normed(kind, ["logits"]) == ["output_norm"]
    assert normed(kind, ["logits", "hidden"]) == [*hidden, "output_norm"]
    assert normed(kind, []) == []
    assert len(hidden) == HIDDEN[kind]
    if kind.startswith("resnet"):
        around = [name for name in normed(kind, ["shortcut"]) if name.endswith("residual.shortcut.norm")]
        assert len(around) == (2 if spec_of(kind).takes_a() is False else 0)
        assert normed(kind, ["shortcut"]) == around
    else:
        assert refused(kind=kind, **SMALL[kind], norm_positions=["shortcut"]) == [
            ("/network/norm_positions/0", "literal_error")
        ]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_normalization_of_weights_is_in_the_positions_that_are_named(kind: str) -> None:
    def wrapped(positions: list[str]) -> set[str]:
        network = built(kind, norm={"kind": "weight_norm"}, norm_positions=positions)
        return {name for name, layer in network.named_modules() if parametrize.is_parametrized(layer)}

    assert wrapped(["logits"]) == {"output"}
    network = built(kind, norm={"kind": "none"})
    weights = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    around = {name for name in weights if "shortcut" in name}
    assert wrapped(["hidden"]) == weights - around - {"output"}
    if kind.startswith("resnet"):
        assert wrapped(["shortcut"]) == around


def test_the_input_is_named_as_a_position_or_by_its_older_name() -> None:
    old = spec_of("mlp", normalize_input=True)
    for positions in (["input", "hidden"], ["hidden", "input"]):
        assert spec_of("mlp", norm_positions=positions) == old
        assert spec_of("mlp", norm_positions=positions, normalize_input=True) == old
    alone = spec_of("mlp", norm_positions=["input"])
    assert (alone.norm_positions, alone.normalize_input) == ((), True)
    # As it is stored it means the same.
    assert load_spec({"network": alone.model_dump(mode="json")}).network == alone
    assert refused(kind="mlp", norm_positions=["hidden", "input"], normalize_input=False) == [
        ("/network/norm_positions", "two_ways_to_say_it")
    ]


@pytest.mark.parametrize(
    ("positions", "fault"),
    [
        (["hidden", "hidden"], ("/network/norm_positions", "position_twice")),
        (["input", "input"], ("/network/norm_positions", "position_twice")),
        (["input", "bogus"], ("/network/norm_positions/1", "literal_error")),
        (["input", ["hidden"]], ("/network/norm_positions/1", "literal_error")),
        ("hidden", ("/network/norm_positions", "tuple_type")),
        (None, ("/network/norm_positions", "tuple_type")),
    ],
    ids=str,
)
def test_positions_that_make_no_sense_are_refused_where_they_stand(positions: object, fault: tuple[str, str]) -> None:
    assert refused(kind="cnn", norm_positions=positions) == [fault]


def test_logits_that_a_norm_cannot_work_with_are_refused() -> None:
    assert refused(kind="cnn", norm={"kind": "instance_norm"}, norm_positions=["hidden", "logits"]) == [
        ("/network/norm/kind", "one_value_per_instance")
    ]
    norm = {"kind": "group_norm", "num_groups": 8}
    with pytest.raises(SpecError, match="8 groups do not divide the 10 channels of layer output_norm; try 1"):
        load_spec({"network": {"kind": "cnn", "norm": norm, "norm_positions": ["hidden", "logits"]}})


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", "Auto", None, []], ids=repr)
def test_a_bias_is_true_false_or_auto(value: object) -> None:
    assert refused(kind="mlp", bias=value) == [("/network/bias", "bool_or_auto")]


def biases_that_live(network: nn.Sequential, shape: tuple[int, ...] = SHAPE) -> set[str]:
    """Those with a gradient in the second pass, when windows of statistics have begun to fill."""
    generator = torch.Generator().manual_seed(8)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    for _ in range(2):
        network.zero_grad()
        out = network(torch.randn(8, *shape, generator=generator, dtype=torch.float64))
        (out * torch.randn(out.shape, generator=generator, dtype=torch.float64)).sum().backward()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    weights = {name: max(float(each.grad.abs().max()) for each in layer.parameters()) for name, layer in layers.items()}
    return {
        f"{name}.bias" for name, layer in layers.items() if float(layer.bias.grad.abs().max()) > 1e-9 * weights[name]
    }


AFTER_SUM = ("residual_mlp", "resnet", "depthwise")
PLACED = [
    (kind, placement)
    for kind in NETWORKS
    for placement in ("before_activation", "after_activation", "after_sum")
    if placement == "before_activation" or "placement" in MEMBERS[kind].model_fields
    if placement != "after_sum" or kind in AFTER_SUM
]


@pytest.mark.parametrize("positions", [["hidden"], ["shortcut", "logits"], ["hidden", "shortcut", "logits"]], ids=str)
@pytest.mark.parametrize(("kind", "placement"), PLACED)
def test_auto_leaves_out_the_biases_that_are_dead_and_no_other(kind: str, placement: str, positions: list[str]) -> None:
    has_shortcut = kind.startswith("resnet")
    positions = [position for position in positions if position != "shortcut" or has_shortcut]
    if kind == "deep_linear" and "hidden" not in positions:
        # Without activations a bias is lost in a normalization however far behind it is.
        positions = ["hidden"]
    parts: dict[str, Any] = {"norm_positions": positions}
    parts |= {"placement": placement} if "placement" in MEMBERS[kind].model_fields else {}
    parts |= {"shortcut": "B"} if has_shortcut else {}
    parts |= {} if kind == "deep_linear" else {"activation": "tanh"}
    network = built(kind, bias="auto", **parts)
    weights = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    kept = {f"{name}.bias" for name, layer in weights.items() if layer.bias is not None}
    assert kept == biases_that_live(built(kind, bias=True, **parts))


@pytest.mark.parametrize("norm", admitted("cnn"))
def test_every_norm_says_whether_it_cancels_a_bias(norm: str) -> None:
    parts = network_with("cnn", norm, channels=[8, 8])
    parts["activation"] = "identity" if parts.get("activation") else "tanh"
    spec = load_spec({"network": parts}).network
    is_dead = "conv1.bias" not in biases_that_live(build_network(spec, SHAPE, 10, seed=2))
    assert is_dead == spec.norm.cancels_bias(8)


def test_groups_of_one_channel_cancel_a_bias_and_wider_ones_do_not() -> None:
    for groups, is_dead in ((4, True), (2, False)):
        norm = {"kind": "group_norm", "num_groups": groups}
        network = built("cnn", channels=[4, 4], norm=norm, bias="auto")
        assert (network.conv1.bias is None) == is_dead


@pytest.mark.parametrize(
    ("kind", "init"),
    [
        *[(kind, "default") for kind in NETWORKS],
        *[("cnn", member.model_fields["kind"].default) for member in members(InitSpec)],
    ],
)
def test_init_scale_multiplies_all_that_is_drawn_and_nothing_else(kind: str, init: str) -> None:
    plain, scaled = (built(kind, init={"kind": init}, bias=True, init_scale=scale) for scale in (1.0, 0.25))
    drawn = {name for name, layer in plain.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    other = scaled.state_dict()
    for key, value in plain.state_dict().items():
        expected = value * 0.25 if key.rpartition(".")[0] in drawn else value
        assert torch.equal(other[key], expected), key
    assert {key for key, value in plain.state_dict().items() if not value.any()} == {
        key for key, value in other.items() if not value.any()
    }


@pytest.mark.parametrize("scale", [0.0, -1.0, 101.0, "1"], ids=repr)
def test_an_init_scale_is_positive(scale: object) -> None:
    [(pointer, _)] = refused(kind="mlp", init_scale=scale)
    assert pointer == "/network/init_scale"


def has_scale(norm: str) -> bool:
    return load_spec({"network": network_with("resnet", norm)}).network.norm.has_scale


SCALED = [norm for norm in admitted("resnet") if has_scale(norm)]


@pytest.mark.parametrize("norm", SCALED)
def test_blocks_start_as_their_shortcuts_where_the_last_gamma_is_zero(norm: str) -> None:
    network = network_with("resnet", norm, zero_init_last_gamma=True, norm_positions=["hidden"])
    blocks = build_network(load_spec({"network": network}).network, SHAPE, 10, seed=2)
    image = torch.randn(3, 4, 8, 8)
    body = blocks.stage1.block1.residual.body
    assert not body(image).any()
    assert body[0](image).any()
    assert blocks.stem.norm.weight.any()


@pytest.mark.parametrize(
    "parts",
    [
        {"norm": {"kind": "none"}},
        {"norm": {"kind": "weight_norm"}},
        {"norm": {"kind": "batch_norm", "affine": False}},
        {"norm": {"kind": "global_response_norm"}},
        {"placement": "after_sum"},
        {"placement": "after_activation"},
        {"norm_positions": ["logits"]},
    ],
    ids=str,
)
def test_a_last_gamma_that_is_not_there_is_refused(parts: dict[str, Any]) -> None:
    network = {"kind": "resnet", "zero_init_last_gamma": True, **parts}
    assert refused(**network) == [("/network/zero_init_last_gamma", "no_last_gamma")]


@pytest.mark.parametrize(
    ("depth", "shortcut", "activation"),
    [
        *((8, shortcut, activation) for shortcut in "AB" for activation in get_args(ActivationName)),
        *((depth, shortcut, "relu") for depth, shortcut in ((20, "auto"), (18, "A"), (50, "A"), (50, "auto"))),
    ],
)
def test_channels_that_are_said_to_stay_zero_do_and_no_others(depth: int, shortcut: str, activation: str) -> None:
    spec = {"kind": "resnet", "depth": depth, "width": 3, "shortcut": shortcut, "activation": activation}
    assert not cautions(load_spec({"network": spec}))
    loaded = load_spec({"network": {**spec, "zero_init_last_gamma": True}})
    torch.manual_seed(0)
    network = build_network(loaded.network, SHAPE, 10, seed=2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    images, classes = torch.randn(40, *SHAPE), torch.arange(40) % 10
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), classes).backward()
        optimizer.step()
    by_channel = network.output.weight.grad.abs().sum(0)
    dead, channels = int((by_channel == 0).sum()), len(by_channel)
    assert [one.code for one in cautions(loaded)] == ["dead_channels"] * (dead > 0)
    assert all(f" {channels} channels" in one.detail and one.detail.startswith(f"{dead} ") for one in cautions(loaded))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "transformer_encoder"])
def test_init_scale_multiplies_what_init_draws_of_networks_of_sequences(kind: str) -> None:
    recurrent = {} if kind == "transformer_encoder" else {"recurrent_init": "as_init"}

    def state(**options: Any) -> dict[str, torch.Tensor]:
        network = {"kind": kind, "norm": {"kind": "none"}, "init": {"kind": "normal"}, **options}
        spec = load_spec({"network": network, "data": {"kind": "digits", "as": "row"}}).network
        return build_network(spec, Signal((8, 8), "sequence"), 10, seed=2).state_dict()

    plain, scaled = state(**recurrent), state(**recurrent, init_scale=0.25)
    for key, value in plain.items():
        drawn = "weight" in key and "positions" not in key
        assert torch.equal(scaled[key], value * 0.25 if drawn else value), key
    if recurrent:
        plain, scaled = state(), state(init_scale=0.25)
        orthogonal = [key for key in plain if "weight_hh" in key]
        assert orthogonal
        assert all(torch.equal(plain[key], scaled[key]) for key in orthogonal)


@pytest.mark.parametrize("output", ["mean", "first_token", "each_step"])
@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "none"])
def test_auto_leaves_out_the_biases_of_a_transformer_that_are_dead_and_no_other(
    norm: str, placement: str, output: str
) -> None:
    options = {"width": 6, "heads": 2, "blocks": 2, "mlp_width": 5, "activation": "tanh"}
    network = {
        "kind": "transformer_encoder",
        "norm": {"kind": norm},
        "placement": placement,
        "output": output,
        **options,
    }
    data = {"kind": "variable_length", "tag": output == "each_step"}

    def made(**bias: Any) -> nn.Sequential:
        spec = load_spec({"network": {**network, **bias}, "data": data}).network
        return build_network(spec, Signal((7, 5), "sequence"), 10, seed=2)

    layers = {name: layer for name, layer in made(bias="auto").named_modules() if isinstance(layer, nn.Linear)}
    kept = {f"{name}.bias" for name, layer in layers.items() if layer.bias is not None}
    assert kept == biases_that_live(made(bias=True), (7, 5))
    assert len(kept) == len(layers) or norm == "batch_norm"
    dropped = [layer.bias for layer in made(bias="auto", dropout=0.1).modules() if isinstance(layer, nn.Linear)]
    assert all(bias is not None for bias in dropped)


def test_a_recurrence_has_no_dead_bias_to_leave_out() -> None:
    for norm in ("none", "sequence_batch_norm", "step_batch_norm", "layer_norm"):
        auto, plain = (
            load_spec({"network": {"kind": "gru", "norm": {"kind": norm}, "bias": bias}, "data": {"as": "row"}})
            for bias in ("auto", True)
        )
        assert plan(auto).layers == plan(plain).layers
