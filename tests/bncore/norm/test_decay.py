"""Which parameters are spared from weight decay."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from bncore.norm import no_decay_parameters, parameter_groups
from bncore.norm.batch_instance_norm import BatchInstanceNorm
from bncore.norm.build import build_norm
from bncore.norm.skip_init import SkipInit
from bncore.norm.weight_norm import weight_norm
from bncore.norm.weight_standardization import scaled_weight_standardization
from bncore.recurrent import BatchNormLSTM
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec


def spared(model: nn.Module) -> set[str]:
    chosen = set(no_decay_parameters(model))
    return {name for name, parameter in model.named_parameters() if parameter in chosen}


def test_norms_and_biases_are_spared_and_weights_are_not() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5), nn.LayerNorm(5), BatchInstanceNorm(5)
    )
    everything = {name for name, _ in model.named_parameters()}
    assert everything - spared(model) == {"0.weight", "3.weight"}
    assert "5.gate" in spared(model)


@pytest.mark.parametrize("member", members(NormSpec), ids=lambda member: member.__name__)
def test_every_parameter_of_every_layer_of_ours_is_spared(member: type) -> None:
    layer = build_norm(member(), 64)
    if layer is not None:
        assert spared(layer) == {name for name, _ in layer.named_parameters()}


def test_biases_of_every_name_are_spared() -> None:
    lstm, attention = nn.LSTM(3, 4), nn.MultiheadAttention(4, 2, add_bias_kv=True)
    assert spared(lstm) == {"bias_ih_l0", "bias_hh_l0"}
    assert spared(attention) == {"in_proj_bias", "bias_k", "bias_v", "out_proj.bias"}


def test_scales_that_weight_parametrizations_learn_are_spared() -> None:
    for normalize in (weight_norm, parametrizations.weight_norm):
        assert spared(normalize(nn.Linear(3, 4))) == {"bias", "parametrizations.weight.original0"}
    scaled = scaled_weight_standardization(nn.Conv2d(3, 4, 3))
    assert spared(scaled) == {"bias", "parametrizations.weight.0.gain"}
    assert spared(SkipInit()) == {"weight"}


def test_a_parametrized_bias_or_scale_is_spared() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    parametrize.register_parametrization(model[0], "bias", nn.Softplus())
    parametrize.register_parametrization(model[1], "weight", nn.Softplus(), unsafe=True)
    assert spared(model) == {"0.parametrizations.bias.original", "1.parametrizations.weight.original", "1.bias"}


def test_of_recurrent_layers_the_matrices_decay() -> None:
    model = BatchNormLSTM(3, 4)
    chosen = spared(model)
    assert {parameter.dim() for name, parameter in model.named_parameters() if name in chosen} == {1}
    assert {parameter.dim() for name, parameter in model.named_parameters() if name not in chosen} == {2}


def test_the_groups_hold_each_parameter_once_and_go_into_an_optimizer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight, model[2].bias = model[0].weight, model[1].weight
    model[0].weight.requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    assert [id(parameter) for parameter in groups[0]["params"]] == [id(model[0].weight)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    before = model[1].weight.detach().clone()
    model[0].weight.requires_grad_(True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[1].weight, before)
    torch.testing.assert_close(model[0].weight, 0.9 * weight)


def test_a_model_without_weights_has_an_empty_first_group() -> None:
    groups = parameter_groups(nn.BatchNorm1d(4), 0.1)
    assert [len(group["params"]) for group in groups] == [0, 2]
    torch.optim.SGD(groups, lr=0.1)
