"""Our optimizers are those of torch, to the last bit."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from bncore.spec import (
    AdagradSpec,
    AdamSpec,
    AdamWSpec,
    ConstantSchedule,
    OptimizerSpec,
    RmsPropSpec,
    SgdSpec,
    load_spec,
)
from bncore.train.optim import LearningRate, build_optimizer

Torch = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, tuple[OptimizerSpec, Torch]] = {
    "sgd": (SgdSpec(lr=0.1), lambda ps: torch.optim.SGD(ps, lr=0.1, fused=True)),
    "sgd, momentum and decay": (
        SgdSpec(lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    ),
    "sgd, nesterov": (
        SgdSpec(lr=0.1, momentum=0.9, nesterov=True),
        lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    ),
    "adam": (
        AdamSpec(lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6),
        lambda ps: torch.optim.Adam(ps, lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6, fused=True),
    ),
    "adamw": (
        AdamWSpec(lr=0.01, weight_decay=0.1),
        lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1, fused=True),
    ),
    "rmsprop": (RmsPropSpec(lr=0.1), lambda ps: torch.optim.RMSprop(ps, lr=0.1, foreach=True)),
    "rmsprop, centered, momentum and decay": (
        RmsPropSpec(lr=0.1, alpha=0.9, eps=1e-6, momentum=0.8, centered=True, weight_decay=0.01),
        lambda ps: torch.optim.RMSprop(
            ps, lr=0.1, alpha=0.9, eps=1e-6, momentum=0.8, centered=True, weight_decay=0.01, foreach=True
        ),
    ),
    "adagrad": (
        AdagradSpec(lr=0.1, weight_decay=0.01, initial_accumulator_value=0.5),
        lambda ps: torch.optim.Adagrad(ps, lr=0.1, weight_decay=0.01, initial_accumulator_value=0.5, foreach=True),
    ),
}


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (5,), (3, 3, 2))]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_and_state_have_the_bits_that_torch_gives_them(name: str) -> None:
    spec, make = OPTIMIZERS[name]
    mine, others = weights(), weights()
    unused = nn.Parameter(torch.ones(2))
    optimizer, other = build_optimizer(spec, [*mine, unused]), make([*others, unused])
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        for one, two in zip(mine, others, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        optimizer.step()
        other.step()
    assert torch.equal(unused, torch.ones(2))
    for one, two in zip(mine, others, strict=True):
        assert torch.equal(one, two)
        expected: dict[str, Any] = {key: value for key, value in other.state[two].items() if value is not None}
        assert optimizer.state.get(one, {}).keys() == expected.keys()
        assert all(torch.equal(optimizer.state[one][key], expected[key]) for key in expected)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_what_normalizations_learn_and_biases_can_be_left_without_decay(kind: str) -> None:
    extra = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}
    document = {"optimizer": {"kind": kind, "lr": 0.1, "weight_decay": 0.5, "exempt_norms": True, **extra}}
    spec = load_spec(document).optimizer
    torch_class = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}[kind]
    how = {"foreach": True} if kind in ("rmsprop", "adagrad") else {"fused": True}
    mine, others = weights(), weights()
    optimizer = build_optimizer(spec, mine, mine[1:2])
    groups = [{"params": [others[0], others[2]]}, {"params": [others[1]], "weight_decay": 0.0}]
    other = getattr(torch.optim, torch_class)(groups, lr=0.1, weight_decay=0.5, **extra, **how)
    for step in range(3):
        for one, two in zip(mine, others, strict=True):
            one.grad, two.grad = torch.full_like(one, 0.1 * step), torch.full_like(one, 0.1 * step)
        optimizer.step()
        other.step()
    assert all(torch.equal(one, two) for one, two in zip(mine, others, strict=True))


def test_gradients_that_hardly_vary_leave_centered_rmsprop_finite() -> None:
    parameter = nn.Parameter(torch.zeros(1000))
    optimizer = build_optimizer(RmsPropSpec(centered=True, alpha=0.5), [parameter])
    for _ in range(60):
        parameter.grad = torch.linspace(1.0, 2.0, 1000)
        optimizer.step()
    assert parameter.isfinite().all()


def test_the_learning_rate_is_that_of_the_step() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(SgdSpec(lr=0.5), [parameter])
    assert LearningRate(optimizer, SgdSpec(lr=0.25), ConstantSchedule(), 10).set(1) == 0.25
    parameter.grad = torch.ones(1)
    optimizer.step()
    assert parameter.item() == -0.25
