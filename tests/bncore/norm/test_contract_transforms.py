"""Every layer under `torch.func`: gradients, ensembles, forward mode, and derivatives beyond the second."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.bncore.norm.case import Case, sample, twin


def pure(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """The layer as a function of its input: each call starts from the same state."""
    state = {name: value.detach().clone() for name, value in layer.state_dict().items()}

    def run(x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {name: value.clone() for name, value in state.items()}, (x,))

    return run


def test_gradients_under_a_function_transform_are_those_of_autograd(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample(shape_of)
    parameters = {name: value.detach().clone() for name, value in layer.named_parameters()}
    buffers = {name: value.clone() for name, value in layer.named_buffers()}

    def loss(parameters: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, {**parameters, **buffers}, (x,)).sin().sum()

    into_parameters, into_x = torch.func.grad(loss, argnums=(0, 1))(parameters, x, buffers)
    x.requires_grad_()
    layer(x).sin().sum().backward()
    torch.testing.assert_close(into_x, x.grad, rtol=1e-10, atol=1e-10)
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(into_parameters[name], parameter.grad, rtol=1e-10, atol=1e-10)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-11, atol=1e-12, msg=name)


# Kernels on the bits of a mask have no rule for it.
@pytest.mark.where(lambda case: not case.averages_gradients and "padded" not in case.name)
def test_a_stack_of_gradients_goes_back_at_once(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample(shape_of).requires_grad_()
    y = layer(x)
    inputs = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    stack = torch.stack([sample(shape_of, seed=seed) for seed in range(2)])
    together = torch.autograd.grad(y, inputs, stack, is_grads_batched=True, retain_graph=True)
    for number, grad in enumerate(stack):
        alone = torch.autograd.grad(y, inputs, grad, retain_graph=True)
        for mine, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[number], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_members_of_an_ensemble_run_as_one_equal_each_by_itself(
    case: Case, shape_of: tuple[int, ...], mode: str
) -> None:
    members = [case.prepared().train(mode == "training") for _ in range(3)]
    for number, member in enumerate(members):
        for tensor in member.state_dict().values():
            tensor.mul_(1 + number)
    x = torch.stack([sample(shape_of, seed=number) for number in range(3)])
    parameters, buffers = torch.func.stack_module_state(members)
    template = twin(members[0]).to("meta")

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(template, {**parameters, **buffers}, (x,))

    y = torch.func.vmap(run)(parameters, buffers, x)
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(x[number]), rtol=1e-10, atol=1e-10)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer, rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.where(lambda case: case.third_order)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_forward_mode_second_derivatives_are_right(case: Case) -> None:
    layer, shape = case.prepared(), case.shapes[0]
    x, direction = sample(shape), sample(shape, seed=5)

    def curvature(function: Callable[[Tensor], Tensor]) -> Tensor:
        def slope(x: Tensor) -> Tensor:
            return torch.func.jvp(function, (x,), (direction,))[1]

        return torch.func.jvp(slope, (x,), (direction,))[1]

    expected = curvature(lambda x: case.training(layer, x))
    torch.testing.assert_close(curvature(pure(layer)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.where(lambda case: case.third_order)
def test_hessians_and_third_derivatives_are_right(case: Case) -> None:
    layer, shape = case.prepared(), case.shapes[0]
    x, direction = sample(shape), sample(shape, seed=5)
    weights = torch.linspace(-1.0, 1.0, x.numel(), dtype=torch.float64).view(shape)

    def along(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda t: (function(x + t * direction).sin() * weights).sum()

    zero = torch.zeros((), dtype=torch.float64)
    third = torch.func.grad(torch.func.grad(torch.func.grad(along(pure(layer)))))(zero)
    t = zero.clone().requires_grad_()
    value = along(lambda x: case.training(layer, x))(t)
    for _ in range(3):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
    torch.testing.assert_close(third, value.detach(), rtol=1e-8, atol=1e-8)

    small = x[:, :, *(slice(0, 2),) * (x.dim() - 2)][:3]
    mine = torch.func.hessian(lambda x: pure(layer)(x).sin().sum())(small)
    theirs = torch.autograd.functional.hessian(lambda x: case.training(layer, x).sin().sum(), small)
    torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.where(lambda case: case.third_order and case.orders > 1)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_third_derivatives_by_autograd_are_right_or_refused(case: Case, mode: str) -> None:
    layer, shape = case.prepared().train(mode == "training"), case.shapes[0]
    x, direction = sample(shape), sample(shape, seed=5)
    weights = torch.linspace(-1.0, 1.0, x.numel(), dtype=torch.float64).view(shape)

    def third(function: Callable[[Tensor], Tensor]) -> Tensor:
        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value = (function(x + t * direction).sin() * weights).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
        return value.detach()

    expected = third(lambda x: case.expected(twin(layer), x))
    try:
        found = third(layer)
    except RuntimeError as error:
        if "third derivative of torch's kernel for normalization" not in str(error):
            raise
        return
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
