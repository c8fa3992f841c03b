"""Fully connected networks, as in Ioffe and Szegedy 2015, section 4.1."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Flatten, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.layered import LayeredSpec, Layers
from bncore.spec.strict import Count


class MlpSpec(LayeredSpec):
    """A fully connected network on the flattened input."""

    width_field: ClassVar[str] = "hidden"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "vector")

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=100)] = Field(
        default=(100, 100, 100), description="Width of each hidden layer."
    )

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def _layers(self, classes: int) -> Layers:
        yield "flatten", Flatten()
        yield from self.input_norm()
        for number, width in enumerate(self.hidden, start=1):
            where = {"stream": number, "width_pointer": f"/hidden/{number - 1}"}
            yield from self.layer(f"linear{number}", self.linear(width), number, **where)
        yield from self.output(classes)
