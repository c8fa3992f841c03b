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
    LambSpec,
    LarsSpec,
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


LAYERWISE: dict[str, OptimizerSpec] = {
    "lamb": LambSpec(lr=0.1, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-3, exempt_norms=True),
    "lars": LarsSpec(lr=2.0, weight_decay=0.1, momentum=0.8, trust_coefficient=0.01),
    "lars, nesterov": LarsSpec(lr=2.0, momentum=0.8, nesterov=True, trust_coefficient=0.01),
}


@pytest.mark.parametrize("name", LAYERWISE)
def test_steps_are_scaled_by_norms_as_in_the_papers(name: str) -> None:
    spec = LAYERWISE[name]
    mine, gradients = [*weights(), nn.Parameter(torch.full((30, 30), 4.0))], torch.Generator().manual_seed(3)
    unused = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(spec, [*mine, unused], mine[1:2])
    wanted = [one.detach().double() for one in mine]
    moments: list[dict[str, torch.Tensor]] = [{} for _ in mine]
    for step in range(4):
        optimizer.lr = spec.lr * (step + 1)
        for place, one in enumerate(mine):
            one.grad = torch.randn(one.shape, generator=gradients)
            formula = lamb if isinstance(spec, LambSpec) else lars
            decay = 0.0 if place == 1 else spec.weight_decay
            wanted[place] -= formula(spec, optimizer.lr, decay, wanted[place], one.grad.double(), moments[place])
        optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    for one, value, kept in zip(mine, wanted, moments, strict=True):
        torch.testing.assert_close(one.detach().double(), value, rtol=1e-5, atol=1e-5)
        assert optimizer.state[one].keys() == kept.keys()


def lamb(spec: Any, lr: float, decay: float, w: torch.Tensor, g: torch.Tensor, kept: dict[str, Any]) -> torch.Tensor:
    """Algorithm 2 of arXiv 1904.00962v3, with phi(z) = min(z, 10)."""
    first, second = spec.betas
    kept["exp_avg"] = first * kept.get("exp_avg", 0.0) + (1 - first) * g
    kept["exp_avg_sq"] = second * kept.get("exp_avg_sq", 0.0) + (1 - second) * g**2
    update = kept["exp_avg"] / (kept["exp_avg_sq"] ** 0.5 + spec.eps) + decay * w
    return lr * min((w**2).sum() ** 0.5, torch.tensor(10.0)) / ((update**2).sum() ** 0.5 + spec.eps) * update


def lars(spec: Any, lr: float, decay: float, w: torch.Tensor, g: torch.Tensor, kept: dict[str, Any]) -> torch.Tensor:
    """Equation 6 of arXiv 1708.03888, with momentum as in torch."""
    if w.dim() > 1:
        norm = (w**2).sum() ** 0.5
        g = spec.trust_coefficient * norm / ((g**2).sum() ** 0.5 + decay * norm) * (g + decay * w)
    kept["momentum_buffer"] = spec.momentum * kept.get("momentum_buffer", 0.0) + g
    return lr * (g + spec.momentum * kept["momentum_buffer"] if spec.nesterov else kept["momentum_buffer"])


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
