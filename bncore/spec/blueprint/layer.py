"""What all primitives of networks have in common."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault


@dataclass(frozen=True, kw_only=True)
class Layer(ABC):
    """One step of a network. The defaults are those of a layer that changes no shape and learns nothing.

    `pointer` names the field that it comes from, as far as something can be wrong with it.
    """

    pointer: str = ""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What a plan calls it."""

    def output(self, signal: Signal) -> Signal:
        """What comes out for a signal that it fits."""
        return signal

    def parameters(self, signal: Signal) -> int:
        """Numbers that it learns."""
        return 0

    def kept(self, signal: Signal) -> int:
        """Numbers of an example, about, that training keeps for its backward pass beside the input of the layer."""
        return 0

    def at_once(self, signal: Signal) -> int:
        """Numbers of an example, about, that lie beside one another while it is passed."""
        return math.prod(signal.shape) + math.prod(self.output(signal).shape)

    def misfit(self, signal: Signal) -> Fault | None:
        """Why nothing can come out of it for that signal."""
        return None
