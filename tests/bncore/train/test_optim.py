"""Our optimizers are those of torch, to the last bit."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from bncore.spec import AdamSpec, AdamWSpec, ConstantSchedule, OptimizerSpec, SgdSpec
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


def test_the_learning_rate_is_that_of_the_step() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(SgdSpec(lr=0.5), [parameter])
    assert LearningRate(optimizer, SgdSpec(lr=0.25), ConstantSchedule(), 10).set(1) == 0.25
    parameter.grad = torch.ones(1)
    optimizer.step()
    assert parameter.item() == -0.25
