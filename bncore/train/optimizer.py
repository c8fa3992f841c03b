"""What every optimizer is to the learner: parameters in groups, a rate that may be set, and state to save."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bncore.spec import OptimizerSpec


class Optimizer(ABC):
    """Updates parameters from their gradients; those without one stay. `lr` may be set before each step.

    `spared` are those of the parameters that weight decay leaves alone where the spec says `exempt_norms`.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], spec: OptimizerSpec, spared: Iterable[nn.Parameter] = ()
    ) -> None:
        self.lr = spec.lr
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        without = set(spared) if spec.exempt_norms and spec.weight_decay else set()
        every = list(parameters)
        self._groups = [(spec.weight_decay, [one for one in every if one not in without])]
        if without:
            self._groups.append((0.0, [one for one in every if one in without]))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """As in `torch.optim`, for those who look for gradients there."""
        return [{"params": group} for _, group in self._groups]

    @torch.no_grad()
    def step(self) -> None:
        """One update."""
        for weight_decay, group in self._groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            for parameter in group:
                if parameter.grad is not None:
                    parameters.append(parameter)
                    gradients.append(parameter.grad)
            if parameters:
                self._update(parameters, gradients, weight_decay)

    @abstractmethod
    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        """Change the parameters by their gradients."""
