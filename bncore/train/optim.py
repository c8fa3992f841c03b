"""Optimizers from their specs, and a learning rate that is a pure function of the step.

The fused kernels of torch update all parameters in one call: for a small network on the CPU, Adam takes a quarter of
the time it takes otherwise. They are called here without `torch.optim`, which imports torch's compiler before its first
step; a test holds them to its bits. Where torch has no fused kernel for CPU and CUDA, its lists of tensors are the next
best. State has the names that `torch.optim` gives it. What torch has not at all is in `layerwise`.
"""

from collections.abc import Iterable
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore.spec import (
    AdagradSpec,
    AdamSpec,
    AdamWSpec,
    LambSpec,
    LarsSpec,
    OptimizerSpec,
    RmsPropSpec,
    ScheduleSpec,
    SgdSpec,
    lr_factor,
)
from bncore.train.layerwise import Lamb, Lars
from bncore.train.optimizer import Optimizer


class Sgd(Optimizer):
    def __init__(self, parameters: Iterable[nn.Parameter], spec: SgdSpec, spared: Iterable[nn.Parameter] = ()) -> None:
        super().__init__(parameters, spec, spared)
        self._spec = spec

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        buffers: list[Tensor] = []
        is_first_step = bool(self._spec.momentum) and parameters[0] not in self.state
        if is_first_step:
            self.state |= {one: {"momentum_buffer": torch.empty_like(one)} for one in parameters}
        if self._spec.momentum:
            buffers = [self.state[one]["momentum_buffer"] for one in parameters]
        torch._fused_sgd_(
            parameters,
            gradients,
            buffers,
            weight_decay=weight_decay,
            momentum=self._spec.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self._spec.nesterov,
            maximize=False,
            is_first_step=is_first_step,
        )


class Adam(Optimizer):
    """Weight decay is decoupled for an `AdamWSpec`."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], spec: AdamSpec | AdamWSpec, spared: Iterable[nn.Parameter] = ()
    ) -> None:
        super().__init__(parameters, spec, spared)
        self._spec = spec
        self._kernel = torch._fused_adamw_ if isinstance(spec, AdamWSpec) else torch._fused_adam_

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        states = [self.state.setdefault(one, {}) for one in parameters]
        for one, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=one.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(one), torch.zeros_like(one)
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        self._kernel(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=self.lr,
            beta1=self._spec.betas[0],
            beta2=self._spec.betas[1],
            weight_decay=weight_decay,
            eps=self._spec.eps,
            amsgrad=False,
            maximize=False,
        )


class RmsProp(Optimizer):
    def __init__(
        self, parameters: Iterable[nn.Parameter], spec: RmsPropSpec, spared: Iterable[nn.Parameter] = ()
    ) -> None:
        super().__init__(parameters, spec, spared)
        self._spec = spec
        self._names = ["square_avg"]
        if spec.momentum:
            self._names.append("momentum_buffer")
        if spec.centered:
            self._names.append("grad_avg")

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        for one in parameters:
            if one not in self.state:
                self.state[one] = {"step": torch.zeros((), device=one.device)} | {
                    name: torch.zeros_like(one) for name in self._names
                }
        lists = {name: [self.state[one][name] for one in parameters] for name in ("step", *self._names)}
        torch._foreach_add_(lists["step"], 1)
        gradients = _decayed(parameters, gradients, weight_decay)
        squares = lists["square_avg"]
        torch._foreach_mul_(squares, self._spec.alpha)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - self._spec.alpha)
        roots = torch._foreach_sqrt(self._variances(squares, lists, gradients))
        torch._foreach_add_(roots, self._spec.eps)
        if not self._spec.momentum:
            torch._foreach_addcdiv_(parameters, gradients, roots, -self.lr)
            return
        velocities = lists["momentum_buffer"]
        torch._foreach_mul_(velocities, self._spec.momentum)
        torch._foreach_addcdiv_(velocities, gradients, roots)
        torch._foreach_add_(parameters, velocities, alpha=-self.lr)

    def _variances(
        self, squares: list[Tensor], lists: dict[str, list[Tensor]], gradients: list[Tensor]
    ) -> tuple[Tensor, ...] | list[Tensor]:
        if not self._spec.centered:
            return squares
        means = lists["grad_avg"]
        torch._foreach_lerp_(means, gradients, 1.0 - self._spec.alpha)
        variances = torch._foreach_addcmul(squares, means, means, -1.0)
        # Of a gradient that hardly varies, rounding makes it negative, and torch's own root of it NaN.
        torch._foreach_clamp_min_(variances, 0.0)
        return variances


class Adagrad(Optimizer):
    def __init__(
        self, parameters: Iterable[nn.Parameter], spec: AdagradSpec, spared: Iterable[nn.Parameter] = ()
    ) -> None:
        super().__init__(parameters, spec, spared)
        self._spec = spec

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        for one in parameters:
            if one not in self.state:
                start = torch.full_like(one, self._spec.initial_accumulator_value)
                self.state[one] = {"step": torch.zeros((), device=one.device), "sum": start}
        torch._foreach_add_([self.state[one]["step"] for one in parameters], 1)
        gradients = _decayed(parameters, gradients, weight_decay)
        sums = [self.state[one]["sum"] for one in parameters]
        torch._foreach_addcmul_(sums, gradients, gradients, 1.0)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, self._spec.eps)
        torch._foreach_addcdiv_(parameters, torch._foreach_mul(gradients, -self.lr), roots)


def build_optimizer(
    spec: OptimizerSpec, parameters: Iterable[nn.Parameter], spared: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The optimizer of `spec`."""
    match spec:
        case SgdSpec():
            return Sgd(parameters, spec, spared)
        case AdamSpec() | AdamWSpec():
            return Adam(parameters, spec, spared)
        case RmsPropSpec():
            return RmsProp(parameters, spec, spared)
        case AdagradSpec():
            return Adagrad(parameters, spec, spared)
        case LambSpec():
            return Lamb(parameters, spec, spared)
        case LarsSpec():
            return Lars(parameters, spec, spared)
        case _:
            assert_never(spec)


def _decayed(parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> list[Tensor]:
    if not weight_decay:
        return gradients
    return list(torch._foreach_add(gradients, parameters, alpha=weight_decay))


class LearningRate:
    """Sets the learning rate of each step. It has no state: nothing to save, nothing to restore."""

    def __init__(self, optimizer: Optimizer, spec: OptimizerSpec, schedule: ScheduleSpec, total_steps: int) -> None:
        self._optimizer = optimizer
        self._base = spec.lr
        self._schedule = schedule
        self._total_steps = total_steps

    def set(self, step: int) -> float:
        """Set and return the learning rate of step `step`."""
        self._optimizer.lr = self._base * lr_factor(self._schedule, step, self._total_steps)
        return self._optimizer.lr
