"""Normalizations of weights in built networks: what they touch, where they start, plain networks made of them."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from bncore.networks import build_network
from bncore.networks.weights import fold_weights, normalize_weights
from bncore.seeds import derive_seed
from bncore.spec import NetworkSpec, load_spec, plan

KINDS = ["weight_norm", "spectral_norm", "weight_standardization", "scaled_weight_standardization"]
U = "parametrizations.weight.0._u"


def spec_of(kind: str, network: str = "mlp", **options: object) -> NetworkSpec:
    layers = {"hidden": [7, 6]} if network == "mlp" else {"channels": [4, 6]}
    return load_spec({"network": {"kind": network, **layers, "norm": {"kind": kind, **options}}}).network


def hidden(network: nn.Sequential) -> list[nn.Module]:
    return [layer for name, layer in network.named_children() if name[:4] in ("line", "conv")]


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_weights_are_normalized_and_the_output_is_not(kind: str, network: str) -> None:
    built = build_network(spec_of(kind, network), (1, 8, 8), 10, seed=2)
    assert len(hidden(built)) == 2
    for layer in hidden(built):
        assert parametrize.is_parametrized(layer, "weight")
        rows = layer.weight.detach().flatten(1)
        if kind == "spectral_norm":
            assert torch.linalg.svdvals(rows)[0].item() == pytest.approx(1.0, abs=0.05)
        elif kind == "weight_standardization":
            torch.testing.assert_close(rows.var(1, correction=0), torch.ones(len(rows)), rtol=0.01, atol=0)
        elif kind == "scaled_weight_standardization":
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    assert not parametrize.is_parametrized(built.output)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_starts_from_the_weights_of_the_plain_network(kind: str, network: str) -> None:
    built, plain = (build_network(spec_of(one, network), (1, 8, 8), 10, seed=2) for one in (kind, "none"))
    for layer, other in zip(hidden(built), hidden(plain), strict=True):
        if kind == "weight_norm":
            torch.testing.assert_close(layer.weight, other.weight, rtol=1e-6, atol=1e-7)
        original = layer.parametrizations.weight
        learned = original.original1 if kind == "weight_norm" else original.original
        assert torch.equal(learned, other.weight)
        assert torch.equal(layer.bias, other.bias)
    assert torch.equal(built.output.weight, plain.output.weight)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_moving_averages_stand_behind_centred_weights_unless_told_otherwise(network: str) -> None:
    built = build_network(spec_of("moving_average_batch_norm", network), (1, 8, 8), 10, seed=2)
    for layer in hidden(built):
        rows = layer.weight.detach().flatten(1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), rtol=0, atol=1e-7)
        assert layer.parametrizations.weight.original.flatten(1).mean(1).abs().max() > 1e-4
    assert not parametrize.is_parametrized(built.output)
    plain = build_network(spec_of("moving_average_batch_norm", network, center_weights=False), (1, 8, 8), 10, seed=2)
    assert not any(parametrize.is_parametrized(layer) for layer in plain)


def test_options_of_the_spec_arrive() -> None:
    shape = (1, 8, 8)
    scaled = build_network(spec_of("scaled_weight_standardization", eps=0.01, gain=1.5), shape, 10)
    assert [(one.eps, one.gamma) for one in (layer.parametrizations.weight[0] for layer in hidden(scaled))] == [
        (0.01, 1.5)
    ] * 2
    standard = build_network(spec_of("weight_standardization", eps=0.02), shape, 10)
    assert hidden(standard)[0].parametrizations.weight[0].eps == 0.02
    spectral = build_network(spec_of("spectral_norm", power_iterations=3), shape, 10)
    assert hidden(spectral)[1].parametrizations.weight[0].power_iterations == 3


def test_start_vectors_come_from_the_seed_and_the_layers_name() -> None:
    network = nn.Sequential()
    for name in ("linear1", "linear2"):
        network.add_module(name, nn.Linear(6, 6))
        nn.init.eye_(network.get_submodule(name).weight)
    spec = spec_of("spectral_norm").norm
    drawn = []
    for seed in (1, 2):
        built = copy.deepcopy(network)
        before = torch.get_rng_state()
        for name in ("linear1", "linear2"):
            normalize_weights(built.get_submodule(name), spec, derive_seed(seed, "norm", name))
        assert torch.equal(torch.get_rng_state(), before)
        for name in ("linear1", "linear2"):
            generator = torch.Generator().manual_seed(derive_seed(seed, "norm", name))
            expected = torch.randn(6, generator=generator)
            # Iteration with the identity changes nothing but the length.
            torch.testing.assert_close(built.state_dict()[f"{name}.{U}"], expected / expected.norm())
            drawn.append(built.state_dict()[f"{name}.{U}"])
    assert len({tuple(vector.tolist()) for vector in drawn}) == 4


@pytest.mark.parametrize("kind", ["none", "batch_norm", "layer_norm"])
def test_a_normalization_of_activations_leaves_weights_alone(kind: str) -> None:
    assert not any(parametrize.is_parametrized(layer) for layer in build_network(spec_of(kind), (1, 8, 8), 10))


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_counts_its_parameters_and_meta_has_its_state(kind: str, network: str) -> None:
    spec = spec_of(kind, network)
    planned = plan(load_spec({"network": spec.model_dump(mode="json")}))
    built = build_network(spec, (1, 8, 8), 10)
    on_meta = build_network(spec, (1, 8, 8), 10, device="meta")
    for layer in planned.layers:
        module = built.get_submodule(layer.name)
        assert sum(parameter.numel() for parameter in module.parameters()) == layer.parameters, layer
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (built, on_meta)]
    assert shapes[0] == shapes[1]
    assert all(value.is_meta for value in on_meta.state_dict().values())
    assert on_meta(torch.empty(2, 1, 8, 8, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", [*KINDS, "batch_norm"])
def test_folded_after_training_it_is_a_plain_network_that_computes_the_same(kind: str, network: str) -> None:
    trained = build_network(spec_of(kind, network), (1, 8, 8), 10, seed=2)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        trained(torch.randn(16, 1, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()
    state = copy.deepcopy(trained.state_dict())
    folded = fold_weights(trained)
    assert not any(parametrize.is_parametrized(layer) for layer in folded)
    assert folded.training
    # The original is as it was, and still works.
    assert all(torch.equal(value, state[key]) for key, value in trained.state_dict().items())
    plain = build_network(spec_of("batch_norm" if kind == "batch_norm" else "none", network), (1, 8, 8), 10, seed=9)
    plain.load_state_dict(folded.state_dict(), strict=True)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    expected = trained.eval()(x)
    for other in (folded, plain, pickle.loads(pickle.dumps(folded))):
        torch.testing.assert_close(other.eval()(x), expected, rtol=0, atol=0)
