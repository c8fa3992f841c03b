"""Optimizers from their specs, and a learning rate that is a pure function of the step.

The fused kernels of torch update all parameters in one call: for a small network on the CPU, Adam takes a quarter of
the time it takes otherwise. They are called here without `torch.optim`, which imports torch's compiler before its first
step; a test holds them to its bits. State has the names that `torch.optim` gives it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore.spec import AdamSpec, AdamWSpec, OptimizerSpec, ScheduleSpec, SgdSpec, lr_factor


class Optimizer(ABC):
    """Updates parameters from their gradients; those without one stay. `lr` may be set before each step."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.lr = lr
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._parameters = list(parameters)

    @torch.no_grad()
    def step(self) -> None:
        """One update."""
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameters.append(parameter)
                gradients.append(parameter.grad)
        self._update(parameters, gradients)

    @abstractmethod
    def _update(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Change the parameters by their gradients."""


class Sgd(Optimizer):
    def __init__(self, parameters: Iterable[nn.Parameter], spec: SgdSpec) -> None:
        super().__init__(parameters, spec.lr)
        self._spec = spec

    def _update(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        buffers: list[Tensor] = []
        is_first_step = bool(self._spec.momentum) and not self.state
        if is_first_step:
            self.state = {one: {"momentum_buffer": torch.empty_like(one)} for one in parameters}
        if self._spec.momentum:
            buffers = [self.state[one]["momentum_buffer"] for one in parameters]
        torch._fused_sgd_(
            parameters,
            gradients,
            buffers,
            weight_decay=self._spec.weight_decay,
            momentum=self._spec.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self._spec.nesterov,
            maximize=False,
            is_first_step=is_first_step,
        )


class Adam(Optimizer):
    """Weight decay is decoupled for an `AdamWSpec`."""

    def __init__(self, parameters: Iterable[nn.Parameter], spec: AdamSpec | AdamWSpec) -> None:
        super().__init__(parameters, spec.lr)
        self._spec = spec
        self._kernel = torch._fused_adamw_ if isinstance(spec, AdamWSpec) else torch._fused_adam_

    def _update(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
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
            weight_decay=self._spec.weight_decay,
            eps=self._spec.eps,
            amsgrad=False,
            maximize=False,
        )


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of `spec`."""
    match spec:
        case SgdSpec():
            return Sgd(parameters, spec)
        case AdamSpec() | AdamWSpec():
            return Adam(parameters, spec)
        case _:
            assert_never(spec)


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
