"""What all primitives of networks have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bncore.spec.blueprint.signal import Signal, SignalKind
from bncore.spec.faults import Fault

READS_SEQUENCES = "use rnn, lstm, gru or transformer_encoder"

_CURES: dict[SignalKind, str] = {
    "image": "give its rows or pixels as the steps of a sequence (`as` in the data), or use a network for images",
    "vector": "use mlp or residual_mlp",
    "sequence": READS_SEQUENCES,
    "tokens": "use transformer_encoder, without normalize_input",
}
"""What works with data of each kind."""


@dataclass(frozen=True, kw_only=True)
class Layer(ABC):
    """One step of a network. The defaults are those of a layer that changes no shape and learns nothing."""

    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "vector", "sequence")

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
        """Why nothing can come out of it for that signal, which is of a kind that it takes."""
        return None

    def stranger(self, signal: Signal, name: str) -> Fault | None:
        """What is wrong where the signal is of a kind that it does not take; `name` is its own in the network."""
        if signal.kind in self.takes:
            return None
        detail = f"Layer {name} ({self.kind}) cannot read {signal}; {_CURES[signal.kind]}"
        return Fault("/kind", detail, "wrong_kind_of_data")
