"""Frozen layers: what they compute, what they survive, and that nothing of it is left afterwards."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from bncore.adapt import prediction_time
from bncore.norm import freeze, unfreeze
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.power_norm import PowerNorm


def network() -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), BatchRenorm(5), nn.GroupNorm(1, 5), PowerNorm(5)
    ).double()
    for _ in range(3):
        model(images())
    return model


def images() -> Tensor:
    return torch.randn(6, 3, 5, 5, dtype=torch.float64) * 2 + 1


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_in_training_mode_frozen_layers_evaluate_and_all_others_train() -> None:
    model = network()
    evaluating, x = copy.deepcopy(model).eval(), images()
    assert freeze(model) is model
    model.train()
    assert [module.training for module in model] == [True, False, True, False, True, False]
    torch.testing.assert_close(model(x), evaluating(x), rtol=0, atol=0)
    before = state(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    assert moved(model, before) == {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"}


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW], ids=lambda kind: kind.__name__)
def test_an_optimizer_with_momentum_and_decay_moves_them_no_more(
    kind: type[torch.optim.Optimizer], set_to_none: bool
) -> None:
    model = network()
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.1, **options)  # type: ignore[call-arg]
    for step in range(4):
        if step == 2:
            freeze(model)
            before = state(model)
        optimizer.zero_grad(set_to_none=set_to_none)
        model(images()).square().mean().backward()
        optimizer.step()
    assert moved(model, before) == {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"}


def test_without_affine_scale_and_shift_go_on_learning() -> None:
    model = freeze(network(), affine=False)
    before = state(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images()).sin().sum().backward()
    optimizer.step()
    assert moved(model, before) == {name for name, _ in model.named_parameters()}
    freeze(model)
    assert not model[1].weight.requires_grad


def test_classes_keys_and_memory_stay() -> None:
    model = network()
    memory = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    layer = model[1]
    freeze(model)
    assert model[1] is layer
    assert isinstance(layer, nn.BatchNorm2d)
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == memory


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_are_frozen_and_can_be_unfrozen(duplicate: object) -> None:
    original = network()
    original[1].weight.requires_grad_(False)
    model = duplicate(freeze(original))  # type: ignore[operator]
    before, x = state(model), images()
    model.train()(x)
    assert moved(model, before) == set()
    unfreeze(model)
    assert type(model[1]) is nn.BatchNorm2d
    assert type(model[3]) is BatchRenorm
    assert [p.requires_grad for p in model[1].parameters()] == [False, True]
    model(x)
    assert "1.running_mean" in moved(model, before)
    assert not original[1].training
    assert not original[1].bias.requires_grad


def test_unfreezing_restores_flags_modes_and_attributes() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    model[3].eval()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    attributes = [set(vars(module)) for module in model]
    freeze(freeze(model, affine=False))
    assert unfreeze(model) is model
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model] == [True, True, True, False, True, True]
    assert [set(vars(module)) for module in model] == attributes
    assert [type(module) for module in model] == [type(module) for module in network()]
    assert unfreeze(model) is model


def test_an_unfrozen_layer_is_in_the_mode_of_its_model() -> None:
    model = freeze(network()).eval()
    unfreeze(model)
    assert not any(module.training for module in model.modules())
    model = freeze(network().eval()).train()
    unfreeze(model)
    assert all(module.training for module in model.modules())


def test_a_parameter_that_two_layers_share_requires_gradients_again() -> None:
    model = nn.Sequential(BatchNorm(4), BatchNorm(4), BatchNorm(4))
    model[1].weight = model[0].weight
    freeze(model, where=lambda name, _: name == "0")
    freeze(model)
    unfreeze(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_where_chooses_and_a_frozen_batch_norm_or_a_layer_without_batch_is_left_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), FrozenBatchNorm(4), nn.LayerNorm(4), BatchNorm(4))
    freeze(model, where=lambda name, layer: not isinstance(layer, BatchNorm)).train()
    assert [module.training for module in model] == [False, True, True, True]


def test_a_layer_without_running_statistics_is_refused_and_nothing_is_frozen() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)))
    with pytest.raises(ValueError, match=r"1\.0 keeps no running statistics"):
        freeze(model)
    assert model.train()[0].training
    assert model[0].weight.requires_grad


def test_a_lazy_layer_which_would_thaw_when_it_first_runs_is_refused_until_it_has() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LazyBatchNorm1d())
    for change in (freeze, prediction_time):
        with pytest.raises(ValueError, match="1 is lazy"):
            change(model)
    model(torch.randn(5, 3))
    assert not freeze(model).train()[1].training


def test_it_compiles_and_gives_the_eager_gradients() -> None:
    model = freeze(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), affine=False).train()
    x = torch.randn(6, 4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    expected = torch.autograd.grad(model(x).sin().sum(), list(model.parameters()))
    actual = torch.autograd.grad(compiled(x).sin().sum(), list(model.parameters()))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
