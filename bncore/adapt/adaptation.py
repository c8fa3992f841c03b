"""What all adaptations have in common: a model that is as before when they end.

Invariant: after `reset`, every parameter and buffer has the bits that it had when the adaptation began, in the same
memory; modes, classes, gradients and flags are the same too.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn


class Adaptation(ABC):
    """A model that is adapted, in place, from when this object is made until `reset` or the end of a `with` block."""

    @abstractmethod
    def reset(self) -> None:
        """Make the model what it was; again, nothing more happens."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reset()


class Snapshot:
    """The values of some tensors and the modes of all modules, to be brought back once."""

    def __init__(self, model: nn.Module, tensors: Iterable[Tensor]) -> None:
        values = {tensor: tensor.detach().clone() for tensor in tensors}
        # By their places: a model that is moved meanwhile has other buffers.
        places = [held for module in model.modules() for held in (module._parameters, module._buffers)]
        self._values = [
            (held, name, values[tensor]) for held in places for name, tensor in held.items() if tensor in values
        ]
        self._modes = [(module, module.training) for module in model.modules()]

    def restore(self) -> None:
        """In place; what happens to the model afterwards is not this snapshot's to undo."""
        with torch.no_grad():
            for held, name, value in self._values:
                tensor = held[name]
                if tensor is not None:
                    tensor.copy_(value)
        for module, training in self._modes:
            module.training = training
        self._values, self._modes = [], []
