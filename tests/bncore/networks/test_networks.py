"""The plan of a spec is the network of that spec; weights depend on seed and layer name only."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bncore.networks import build_network
from bncore.spec import ExperimentSpec, InitSpec, MlpSpec, SpecError, data_shape, load_spec, members, plan
from tests.norm_specs import FITTING, KINDS, admitted, network_with

ACTIVATIONS = ["sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "identity"]


WITH_WEIGHTS = (
    "batch_norm",
    "cross_iteration_batch_norm",
    "moving_average_batch_norm",
    "weight_norm",
    "scaled_weight_standardization",
)


def spec_of(network: dict[str, object]) -> ExperimentSpec:
    return load_spec({"network": network})


def assert_planned(spec: ExperimentSpec) -> None:
    """Names, order, output shapes and parameter counts of the plan are those of the network on the meta device."""
    planned = plan(spec)
    network = build_network(spec.network, data_shape(spec.data).signal, planned.outputs, device="meta")
    seen = []
    for layer in planned.layers:
        module = network.get_submodule(layer.name)
        assert sum(parameter.numel() for parameter in module.parameters()) == layer.parameters, layer
        module.register_forward_hook(
            lambda _module, _inputs, y, name=layer.name: seen.append((name, tuple(y.shape[1:])))
        )
    y = network(torch.empty(2, *planned.input_shape, device="meta"))
    assert seen == [(layer.name, layer.output_shape) for layer in planned.layers]
    assert y.shape == (2, *planned.layers[-1].output_shape)
    assert y.shape[-1] == planned.outputs
    assert planned.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("kind", "norm", "placement"),
    [
        (kind, norm, placement)
        for kind in ("mlp", "cnn", "residual_mlp", *FITTING)
        for norm in admitted(kind)
        for placement in ("before_activation", "after_activation")
        # A norm follows convolutions in cnn already; these have something of their own to do with groups and strides.
        if kind not in FITTING or (norm in WITH_WEIGHTS and placement == "before_activation")
        # Refused: its weights would not be in front.
        if (norm, placement) != ("cross_iteration_batch_norm", "after_activation")
    ],
    ids=str,
)
def test_every_network_with_every_norm_is_as_planned(kind: str, norm: str, placement: str) -> None:
    placed = {} if kind in ("deep_linear", "layers") else {"placement": placement}
    assert_planned(spec_of(network_with(kind, norm, dropout=0.1, **placed)))


norms = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(KINDS)}),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["batch_norm", "batch_renorm", "layer_norm", "rms_norm"]), "affine": st.booleans()}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["group_norm", "iter_norm", "decorrelated_batch_norm", "evo_norm_s0"]),
            "num_groups": st.integers(1, 4),
        }
    ),
    st.fixed_dictionaries(
        {"kind": st.just("filter_response_norm"), "threshold": st.booleans(), "learn_eps": st.booleans()}
    ),
)
around = ["before_activation", "after_activation"]
residual = st.sampled_from([*around, "after_sum"])
positions = st.lists(st.sampled_from(["input", "hidden", "logits"]), unique=True)
shared = {
    "norm": norms,
    "placement": st.sampled_from(around),
    "activation": st.sampled_from(ACTIVATIONS),
    "norm_positions": positions,
    "bias": st.sampled_from([True, False, "auto"]),
    "dropout": st.sampled_from([0.0, 0.5]),
}
staged = {
    "width": st.integers(1, 4),
    "stem": st.sampled_from(["auto", "small", "large"]),
    "shortcut": st.sampled_from(["auto", "A", "B"]),
    **shared,
    "norm_positions": st.lists(st.sampled_from(["input", "hidden", "shortcut", "logits"]), unique=True),
}
kinds_of_layers = st.one_of(
    st.fixed_dictionaries({"kind": st.just("linear"), "width": st.integers(1, 8)}),
    st.fixed_dictionaries(
        {
            "kind": st.just("conv"),
            "width": st.sampled_from([2, 4]),
            "kernel_size": st.sampled_from([1, 3, 5]),
            "stride": st.integers(1, 2),
            "groups": st.integers(1, 2),
            "bias": st.sampled_from([None, True, False, "auto"]),
        }
    ),
    st.fixed_dictionaries(
        {"kind": st.just("pool"), "size": st.integers(2, 3), "stride": st.integers(1, 3), "how": st.just("average")}
    ),
    st.fixed_dictionaries({"kind": st.just("subsample"), "width": st.integers(3, 9), "stride": st.integers(1, 3)}),
    st.fixed_dictionaries({"kind": st.just("norm"), "norm": st.none() | norms}),
    st.fixed_dictionaries({"kind": st.sampled_from(["activation", "dropout", "global_pool", "flatten"])}),
)
lists = st.recursive(
    st.lists(kinds_of_layers, min_size=1, max_size=5),
    lambda inner: st.lists(
        kinds_of_layers | st.fixed_dictionaries({"kind": st.just("residual"), "body": inner}), min_size=1, max_size=5
    ),
    max_leaves=3,
)
widths = st.lists(st.integers(1, 12), min_size=1, max_size=5)
networks = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("layers"),
            "layers": lists.map(lambda layers: [*layers, {"kind": "flatten"}]),
            **{key: value for key, value in shared.items() if key != "placement"},
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("residual_mlp"),
            "width": st.integers(1, 12),
            "blocks": st.integers(1, 3),
            "block_layers": st.integers(1, 4),
            **shared,
            "placement": residual,
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("vgg"),
            "depth": st.sampled_from([11, 13]),
            "width": st.integers(1, 4),
            "pools": st.integers(0, 4),
            "head": st.lists(st.integers(1, 12), max_size=2),
            **shared,
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("resnet"),
            "depth": st.sampled_from([8, 14, 18, 50]),
            **staged,
            "placement": residual,
            "zero_init_last_gamma": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("resnet_v2"),
            "block": st.sampled_from(["basic", "bottleneck"]),
            "depth": st.just(20),
            **staged,
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("depthwise"),
            "width_multiplier": st.sampled_from([0.1, 0.3]),
            "stem": st.sampled_from(["auto", "small", "large"]),
            **shared,
            "placement": residual,
        }
    ),
    st.fixed_dictionaries({"kind": st.just("mlp"), "hidden": widths, **shared}),
    st.fixed_dictionaries(
        {
            "kind": st.just("cnn"),
            "channels": widths,
            "kernel_size": st.sampled_from([1, 3, 5, 7]),
            "pool": st.sampled_from(["max", "average", "none"]),
            **shared,
        }
    ),
)


@pytest.mark.parametrize("examples", [50, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_whatever_spec_is_accepted_is_built_as_planned(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(networks)
    def check(network: dict[str, object]) -> None:
        try:
            spec = spec_of(network)
        except SpecError:
            return
        assert_planned(spec)

    check()


@pytest.mark.parametrize("kind", ["mlp", "cnn", "residual_mlp", "resnet"])
@pytest.mark.parametrize("init", [member.model_fields["kind"].default for member in members(InitSpec)])
def test_networks_that_differ_in_norm_share_every_weight(kind: str, init: str) -> None:
    def weights(norm: dict[str, object], seed: int) -> dict[str, torch.Tensor]:
        spec = spec_of({"kind": kind, "norm": norm, "init": {"kind": init}, "bias": True}).network
        state = build_network(spec, (1, 8, 8), 10, seed=seed).state_dict()
        return {key: value for key, value in state.items() if "norm" not in key}

    plain = weights({"kind": "none"}, 3)
    normalized = weights({"kind": "batch_renorm"}, 3)
    other = weights({"kind": "none"}, 4)
    assert plain.keys() == normalized.keys()
    assert all(torch.equal(plain[key], normalized[key]) for key in plain)
    assert not torch.equal(plain["output.weight"], other["output.weight"])


@pytest.mark.parametrize(
    ("init", "std", "bias"),
    [
        ({"kind": "default"}, 1 / math.sqrt(3 * 400), True),
        ({"kind": "normal", "std": 0.2}, 0.2, False),
        ({"kind": "uniform", "bound": 0.3}, 0.3 / math.sqrt(3), False),
        ({"kind": "xavier", "gain": 2.0}, 2.0 * math.sqrt(2 / 700), False),
        ({"kind": "xavier", "distribution": "normal"}, math.sqrt(2 / 700), False),
        ({"kind": "kaiming"}, math.sqrt(2 / 400), False),
        ({"kind": "kaiming", "distribution": "uniform"}, math.sqrt(2 / 400), False),
        ({"kind": "orthogonal", "gain": 3.0}, 3.0 / math.sqrt(400), False),
    ],
    ids=str,
)
def test_weights_have_the_spread_their_initialization_promises(init: dict[str, object], std: float, bias: bool) -> None:
    spec = spec_of({"kind": "mlp", "hidden": [400, 300], "init": init}).network
    layer = build_network(spec, (1, 8, 8), 10, seed=1).get_submodule("linear2")
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert bool(layer.bias.any()) == bias


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    build_network(MlpSpec(), (1, 8, 8), 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_parameter_and_buffer_is_set_and_finite() -> None:
    network = build_network(spec_of({"kind": "cnn", "normalize_input": True}).network, (1, 8, 8), 10)
    fresh = nn.BatchNorm2d(32).state_dict()
    for key, value in fresh.items():
        assert torch.equal(network.state_dict()[f"norm1.{key}"], value)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_network_is_built_from_what_stands_in_an_experiment() -> None:
    document = {"kind": "cnn", "channels": [4], "norm": {"kind": "none"}}
    built = build_network(document, (3, 6, 6), 5, seed=2)
    expected = build_network(load_spec({"network": document}).network, (3, 6, 6), 5, seed=2).state_dict()
    assert built.training
    assert all(torch.equal(value, expected[key]) for key, value in built.state_dict().items())
    assert built(torch.rand(2, 3, 6, 6)).shape == (2, 5)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"kind": "cnn", "chanels": [4]}, ("/chanels", "unknown_field")),
        ({"kind": "vgg"}, ("/pools", "image_too_small")),
        ({"kind": "layers", "layers": [{"kind": "linear", "width": 3}]}, ("/layers/0", "not_a_vector")),
        # What the normalization itself cannot do, as a POST says it.
        ({"kind": "mlp", "hidden": [9], "norm": {"kind": "group_norm"}}, ("/norm/num_groups", "groups_do_not_divide")),
        ({"kind": "mlp", "norm": {"kind": "instance_norm"}}, ("/norm/kind", "one_value_per_instance")),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_before_it_is(document: dict[str, object], fault: tuple[str, str]) -> None:
    with pytest.raises(SpecError) as caught:
        build_network(document, (1, 8, 8), 10)
    assert [(each.pointer, each.code) for each in caught.value.faults] == [fault]
