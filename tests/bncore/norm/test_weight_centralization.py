"""Weight centralization: the formula for every kind of layer, its derivatives, what it is for, the way back."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bncore.norm import remove_weight_centralization, weight_centralization

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[int]]] = {
    "linear": (lambda: nn.Linear(5, 4), (3, 5), [1]),
    "conv1d, groups": (lambda: nn.Conv1d(6, 4, 3, groups=2), (2, 6, 7), [1, 2]),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5), [1, 2, 3]),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 2), (2, 3, 4, 4), [0, 2, 3]),
}


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LAYERS[name][0]().double()


@pytest.mark.parametrize("name", LAYERS)
def test_the_weights_of_a_unit_lose_their_mean_in_value_and_in_gradient(name: str) -> None:
    plain, axes = made(name), LAYERS[name][2]
    centred = weight_centralization(copy.deepcopy(plain))
    assert torch.equal(centred.parametrizations.weight.original, plain.weight)
    units = plain.weight.sum(axes, keepdim=True)
    expected = plain.weight - units / (plain.weight.numel() // units.numel())
    torch.testing.assert_close(centred.weight, expected, rtol=1e-12, atol=1e-12)
    x = torch.randn(LAYERS[name][1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred(x).square().sum().backward()
    gradient = centred.parametrizations.weight.original.grad
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(gradient.sum(axes), torch.zeros_like(gradient.sum(axes)), rtol=0, atol=1e-10)


def test_in_groups_of_a_transposed_convolution_units_are_counted_apart() -> None:
    layer = weight_centralization(nn.ConvTranspose1d(6, 4, 3, groups=2).double())
    original = layer.parametrizations.weight.original
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        for unit in range(2):
            own = original[rows, unit]
            torch.testing.assert_close(layer.weight[rows, unit], own - own.mean(), rtol=1e-12, atol=1e-12)


def test_its_derivatives_are_right_to_the_second_order() -> None:
    layer = weight_centralization(made("conv2d"))
    rule = layer.parametrizations.weight[0]
    weight = layer.parametrizations.weight.original.detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda w: rule(w).pow(3), weight)


def test_a_shift_that_all_inputs_share_moves_no_output() -> None:
    layer = weight_centralization(made("linear"))
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x + 100.0), layer(x), rtol=0, atol=1e-11)


def test_half_precision_is_centred_in_single() -> None:
    layer = nn.Linear(1001, 2, dtype=torch.bfloat16)
    nn.init.constant_(layer.weight, 0.1)
    weight = weight_centralization(layer).weight
    assert weight.dtype == torch.bfloat16
    assert weight.abs().max() < 1e-6


def test_it_is_taken_off_with_the_value_that_it_gave() -> None:
    layer = weight_centralization(made("conv2d"))
    kept = copy.deepcopy(layer)
    weight = layer.weight.detach().clone()
    plain = pickle.loads(pickle.dumps(remove_weight_centralization(layer)))
    assert torch.equal(plain.weight, weight)
    assert [name for name, _ in plain.named_parameters()] == ["bias", "weight"]
    torch.testing.assert_close(kept.weight, weight)


def test_units_with_one_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="one weight each"):
        weight_centralization(nn.Conv2d(4, 4, 1, groups=4))
