"""What all primitives of networks have in common."""

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

    def misfit(self, signal: Signal) -> Fault | None:
        """Why nothing can come out of it for that signal."""
        return None
