"""Optimizers that scale the step of each tensor by its norm, for large batches: those of pytorch-optimizer, a library.

Invariant: what they keep is what one step hands to the next, so that it can be saved. The library is imported with the
first of them: that takes as long as a small run.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bncore.spec import LambSpec, LarsSpec, OptimizerSpec
from bncore.train.optimizer import Optimizer


class _OfLibrary(Optimizer):
    _kept: ClassVar[tuple[str, ...]]
    """Of what the library remembers, what it uses again."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], spec: OptimizerSpec, spared: Iterable[nn.Parameter] = ()
    ) -> None:
        super().__init__(parameters, spec, spared)
        self._of_group = {decay: self._made(group, decay) for decay, group in self._groups if group}

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:  # noqa: ARG002
        optimizer = self._of_group[weight_decay]
        optimizer.param_groups[0]["lr"] = self.lr
        optimizer.state = defaultdict(dict, {one: self.state[one] for one in parameters if one in self.state})
        optimizer.step()
        for one, state in optimizer.state.items():
            self.state[one] = {name: state[name] for name in self._kept if name in state}

    @abstractmethod
    def _made(self, group: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
        """The library's optimizer of these parameters."""


class Lamb(_OfLibrary):
    _kept = ("exp_avg", "exp_avg_sq")

    def __init__(self, parameters: Iterable[nn.Parameter], spec: LambSpec, spared: Iterable[nn.Parameter] = ()) -> None:
        self._spec = spec
        super().__init__(parameters, spec, spared)

    def _made(self, group: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
        from pytorch_optimizer.optimizer.lamb import Lamb as OfLibrary

        options: dict[str, Any] = {
            "betas": self._spec.betas,
            "eps": self._spec.eps,
            # As in the paper, decay belongs to the update whose norm is taken, ...
            "weight_decouple": False,
            # ... and nothing is corrected; without this, the step is divided by 1 - beta1 ** t.
            "adam_debias": True,
        }
        return OfLibrary(group, lr=self.lr, weight_decay=weight_decay, foreach=True, **options)


class Lars(_OfLibrary):
    _kept = ("momentum_buffer",)

    def __init__(self, parameters: Iterable[nn.Parameter], spec: LarsSpec, spared: Iterable[nn.Parameter] = ()) -> None:
        self._spec = spec
        super().__init__(parameters, spec, spared)

    def _made(self, group: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
        from pytorch_optimizer.optimizer.lars import LARS as OfLibrary

        options: dict[str, Any] = {
            "momentum": self._spec.momentum,
            "nesterov": self._spec.nesterov,
            "trust_coefficient": self._spec.trust_coefficient,
        }
        return OfLibrary(group, lr=self.lr, weight_decay=weight_decay, foreach=True, **options)
