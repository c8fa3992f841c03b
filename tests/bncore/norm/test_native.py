"""torch's kernels are used as far as their derivatives are right, wherever they are used."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.adapt import prediction_time
from bncore.norm import BatchNorm, LayerNorm, first_derivatives_only, weight_standardization
from bncore.recurrent import BatchNormLSTM, LayerNormGRU

REFUSED = "third derivative of torch's kernel for normalization is wrong"


def adapted() -> nn.Module:
    model = nn.Sequential(nn.BatchNorm1d(4)).double().eval()
    prediction_time(model)
    return model


def derivative(function: Callable[[Tensor], Tensor], t: float, order: int) -> Tensor:
    at = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    value = function(at).sin().sum()
    for _ in range(order):
        (value,) = torch.autograd.grad(value, at, create_graph=True)
    return value.detach()


@pytest.mark.parametrize(
    "make",
    [
        lambda: adapted(),
        lambda: weight_standardization(nn.Linear(4, 3).double()),
        lambda: BatchNormLSTM(4, 6).double(),
        lambda: LayerNormGRU(4, 6).double(),
    ],
    ids=["prediction time", "weight standardization", "recurrent batch norm", "recurrent layer norm"],
)
def test_second_derivatives_are_right_and_third_ones_refused(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    shape = (2, 5, 4) if isinstance(model, BatchNormLSTM | LayerNormGRU) else (5, 4)
    x, direction = torch.randn(2, *shape, dtype=torch.float64)

    def along(t: Tensor) -> Tensor:
        moved = {
            name: parameter.detach() + t * torch.linspace(-1, 1, parameter.numel(), dtype=t.dtype).view_as(parameter)
            for name, parameter in model.named_parameters()
        }
        y = torch.func.functional_call(model, moved, (x + t * direction,))
        return y[0] if isinstance(y, tuple) else y

    step = 1e-5
    differences = (derivative(along, step, 1) - derivative(along, -step, 1)) / (2 * step)
    torch.testing.assert_close(derivative(along, 0.0, 2), differences, rtol=1e-5, atol=1e-5)
    with pytest.raises(RuntimeError, match=REFUSED):
        derivative(along, 0.0, 3)


@pytest.mark.parametrize("make", [lambda: BatchNorm(4), lambda: LayerNorm(4)])
def test_a_second_derivative_that_keeps_its_graph_is_given(make: Callable[[], nn.Module]) -> None:
    layer = make().double()
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        (first,) = torch.autograd.grad(run(x).sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
        assert second.requires_grad
        stack = torch.eye(2, dtype=torch.float64)[:, :1, None].expand(2, 6, 4)
        torch.autograd.grad(first, x, stack, is_grads_batched=True, retain_graph=True)
        with pytest.raises(RuntimeError, match=REFUSED):
            second.sum().backward()


@pytest.mark.parametrize("make", [lambda: BatchNorm(4), lambda: LayerNorm(4)])
def test_who_takes_no_third_derivatives_need_not_be_watched(make: Callable[[], nn.Module]) -> None:
    layer = make().double()
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)

    def derivatives(y: Tensor) -> tuple[Tensor, Tensor]:
        (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
        return first, second

    watched = derivatives(layer(x))
    with first_derivatives_only():
        unwatched = derivatives(layer(x))
    assert all(torch.equal(*pair) for pair in zip(watched, unwatched, strict=True))
    unwatched[1].sum().backward()
    with pytest.raises(RuntimeError, match=REFUSED):
        derivatives(layer(x))[1].sum().backward()


def test_an_output_takes_hooks_and_changes_in_place_and_is_saved_as_any_other() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (BatchNorm(4).double(), nn.BatchNorm1d(4).double()):
        y = layer(x)
        assert torch.equal(pickle.loads(pickle.dumps(y)), y)
        seen: list[Tensor] = []
        handle = y.register_hook(seen.append)
        y.register_hook(lambda grad: 2.0 * grad)
        handle.remove()
        found.append(torch.autograd.grad(y.relu_().sin().sum(), x)[0])
        assert not seen
    assert torch.equal(*found)
