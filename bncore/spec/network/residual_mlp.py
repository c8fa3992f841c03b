"""Fully connected residual networks."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Activation, Chain, Flatten, Linear, Norm, Primitive, Residual, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.layered import HiddenLayers
from bncore.spec.strict import Count


class ResidualMlpSpec(HiddenLayers):
    """A fully connected network of residual blocks, each `activation(body(x) + x)` (as arXiv 1512.03385 has them).

    The input is mapped to `width` by a hidden layer first. A body is `block_layers` linear layers with activations
    between them. The normalization is behind each linear layer (`before_activation`), behind each activation
    (`after_activation`), or once a block, between the sum and its activation (`after_sum`).
    """

    width_field: ClassVar[str] = "width"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "vector")

    kind: Literal["residual_mlp"] = "residual_mlp"
    width: Count = Field(default=100, description="Of every hidden layer.")
    blocks: int = Field(default=4, ge=1, le=100)
    block_layers: int = Field(default=2, ge=1, le=4, description="Linear layers in the body of each block.")
    placement: Literal["before_activation", "after_activation", "after_sum"] = Field(
        default="before_activation", description="Where the normalization sits."
    )

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        blocks = tuple(
            (f"block{number}", Chain(tuple(self._block(f"block{number}")))) for number in range(1, self.blocks + 1)
        )
        head = ("output", Linear(width=classes, init=self.init))
        return Chain((("flatten", Flatten()), *self.input_norm(), *self._stem(), *blocks, head))

    def _stem(self) -> Iterator[tuple[str, Primitive]]:
        yield "linear", self._linear()
        if self.placement != "after_activation":
            yield "norm", self._norm("norm", "before_activation")
        yield "activation", Activation(name=self.activation)
        if self.placement == "after_activation":
            yield "norm", self._norm("norm", self.placement)
        yield from self.dropped("dropout")

    def _block(self, name: str) -> Iterator[tuple[str, Primitive | Residual]]:
        yield "residual", Residual(body=Chain(tuple(self._body(f"{name}.residual.body"))), pointer="/width")
        if self.placement == "after_sum":
            yield "norm", self._norm(f"{name}.norm", self.placement)
        yield "activation", Activation(name=self.activation)
        if self.placement == "after_activation":
            yield "norm", self._norm(f"{name}.norm", self.placement)
        yield from self.dropped("dropout")

    def _body(self, name: str) -> Iterator[tuple[str, Primitive]]:
        for number in range(1, self.block_layers + 1):
            yield f"linear{number}", self._linear()
            if self.placement == "before_activation":
                yield f"norm{number}", self._norm(f"{name}.norm{number}", self.placement)
            if number == self.block_layers:
                return
            yield f"activation{number}", Activation(name=self.activation)
            if self.placement == "after_activation":
                yield f"norm{number}", self._norm(f"{name}.norm{number}", self.placement)
            yield from self.dropped(f"dropout{number}")

    def _linear(self) -> Linear:
        return Linear(width=self.width, bias=self.bias, init=self.init, weight_norm=self.norm)

    def _norm(self, name: str, placement: str) -> Norm:
        return Norm(
            spec=self.norm,
            stream=name,
            pointer="/norm",
            width_pointer="/width",
            activation=self.activation,
            placement=placement,
            common_divisor=self.width,
        )
