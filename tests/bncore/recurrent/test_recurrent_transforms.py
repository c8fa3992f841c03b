"""Recurrent layers under `torch.func`: gradients, ensembles, and derivatives beyond the second."""

import pytest
import torch
from torch import Tensor

from tests.bncore.recurrent.oracle import KINDS, RAGGED, make, padded, run, sequences, states_for, twin

LENGTHS = [None, torch.tensor(RAGGED)]
WHOLE_OR_RAGGED = pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "ragged"])


@pytest.mark.parametrize("kind", KINDS)
@WHOLE_OR_RAGGED
def test_gradients_under_a_function_transform_are_those_of_autograd(kind: str, lengths: Tensor | None) -> None:
    layer = make(kind)
    x, _ = padded(sequences((6,) * 5))
    parameters = {name: value.detach().clone() for name, value in layer.named_parameters()}
    buffers = {name: value.clone() for name, value in layer.named_buffers()}

    def loss(parameters: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        y, _ = torch.func.functional_call(layer, {**parameters, **buffers}, (x, None, lengths))
        return y.sin().sum()

    into_parameters, into_x = torch.func.grad(loss, argnums=(0, 1))(parameters, x, buffers)
    x.requires_grad_()
    layer(x, None, lengths)[0].sin().sum().backward()
    torch.testing.assert_close(into_x, x.grad, rtol=1e-10, atol=1e-10)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(into_parameters[name], parameter.grad, rtol=1e-9, atol=1e-10)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@WHOLE_OR_RAGGED
def test_members_of_an_ensemble_run_as_one_equal_each_by_itself(kind: str, mode: str, lengths: Tensor | None) -> None:
    members = [make(kind, max_length=4) if "bn" in kind else make(kind) for _ in range(3)]
    for number, member in enumerate(members):
        member.train(mode == "training")
        for tensor in member.state_dict().values():
            tensor.mul_(1 + number)
    x = torch.stack([padded(sequences((6,) * 5, seed))[0] for seed in range(3)])
    parameters, buffers = torch.func.stack_module_state(members)
    template = twin(members[0]).to("meta")

    def step(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(template, {**parameters, **buffers}, (x, None, lengths))[0]

    y = torch.func.vmap(step)(parameters, buffers, x)
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(x[number], None, lengths)[0], rtol=1e-10, atol=1e-10)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer, rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_third_and_forward_mode_derivatives_are_right(kind: str) -> None:
    layer = make(kind)
    x, lengths = padded(sequences((2, 3, 2)))
    direction, _ = padded(sequences((2, 3, 2), seed=5))
    states = states_for(layer, 3)
    start = states if len(states) == 2 else states[0]
    state = {name: value.detach().clone() for name, value in layer.state_dict().items()}

    def along(t: Tensor) -> Tensor:
        moved = {name: value.clone() for name, value in state.items()}
        y, _ = torch.func.functional_call(layer, moved, (x + t * direction, start, lengths, 0))
        return y.sin().sum()

    zero = torch.zeros((), dtype=torch.float64)
    t = zero.clone().requires_grad_()
    moved = x + t * direction
    ys, _, _ = run(twin(layer), [moved[:length, n] for n, length in enumerate(lengths)], states)
    orders = [sum(y.sin().sum() for y in ys)]
    for _ in range(3):
        orders += torch.autograd.grad(orders[-1], t, create_graph=True)
    third = torch.func.grad(torch.func.grad(torch.func.grad(along)))(zero)
    torch.testing.assert_close(third, orders[3].detach(), rtol=1e-8, atol=1e-8)
    one = torch.ones(())

    def slope(t: Tensor) -> Tensor:
        return torch.func.jvp(along, (t,), (one.double(),))[1]

    torch.testing.assert_close(
        torch.func.jvp(slope, (zero,), (one.double(),))[1], orders[2].detach(), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_meta_device_shapes_come_out(kind: str) -> None:
    layer = make(kind, num_layers=2, bidirectional=True).to("meta")
    x = torch.empty(4, 5, 3, device="meta", dtype=torch.float64)
    y, _ = layer(x, None, torch.empty(5, device="meta", dtype=torch.int64))
    assert y.is_meta
    assert y.shape == layer(x)[0].shape == (4, 5, 4)
