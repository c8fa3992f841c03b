"""Networks that a user writes as a list of layers, checked by the walk that checks all others."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, Primitive, Residual, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.elements import (
    ActivationElement,
    AnyElement,
    Elements,
    Neighbours,
    NormElement,
    ResidualElement,
    WeightsElement,
)
from bncore.spec.network.layered import HiddenLayers, Layers, PlainPositions
from bncore.spec.norm import NoNorm, NormSpec

MAX_ELEMENTS = 1000
MAX_NESTING = 4
"""Residual blocks within one another."""


class LayersSpec(HiddenLayers):
    """A network as a list of layers; a linear layer to the classes is added at its end, where a vector has to arrive.

    Layers without a norm, activation, bias or dropout of their own take the network's.
    """

    width_field: ClassVar[str] = "layers"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "vector")

    kind: Literal["layers"] = "layers"
    layers: Elements = Field(min_length=1, description="One behind the other.")
    norm_positions: PlainPositions = ("hidden",)

    @model_validator(mode="after")
    def _list_makes_sense(self) -> "LayersSpec":
        count, nesting = _extent(self.layers)
        faults = list(self._faults(self.layers, "/layers"))
        if count > MAX_ELEMENTS:
            faults = [("/layers", f"Has {count:,} layers; at most {MAX_ELEMENTS:,} are allowed", "too_many_layers")]
        if nesting > MAX_NESTING:
            faults = [("/layers", f"Has residual blocks nested {nesting} deep; at most {MAX_NESTING}", "too_deep")]
        if faults:
            raise PydanticCustomError("cross_field", "the list makes no sense", {"faults": faults})
        return self

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain((*self.input_norm(), ("layers", self._chain(self.layers, "/layers")), *self.output(classes)))

    def _chain(self, elements: tuple[AnyElement, ...], pointer: str) -> Chain:
        return Chain(tuple(self._made(elements, pointer)))

    def _made(self, elements: tuple[AnyElement, ...], pointer: str) -> Layers:
        for index in range(len(elements)):
            made = self._layer(elements, index, f"{pointer}/{index}")
            if made is not None:
                yield str(index), made

    def _layer(self, elements: tuple[AnyElement, ...], index: int, pointer: str) -> Primitive | Residual | None:
        element = elements[index]
        if isinstance(element, ResidualElement):
            body = self._chain(element.body, f"{pointer}/body")
            return Residual(body=body, shortcut=self._chain(element.shortcut, f"{pointer}/shortcut"), pointer=pointer)
        return element.primitive(self, self._neighbours(elements, index, pointer))

    def _neighbours(self, elements: tuple[AnyElement, ...], index: int, pointer: str) -> Neighbours:
        behind = elements[index + 1] if index + 1 < len(elements) else None
        weights = _weights_in_front(elements, index)
        activation = behind if isinstance(behind, ActivationElement) else None
        has_own = activation is not None and activation.activation is not None
        parent = pointer.rpartition("/")[0]
        return Neighbours(
            pointer=pointer,
            norm_behind=behind.spec_in(self) if isinstance(behind, NormElement) else None,
            weight_norm=next(self._acting_norms(elements, index), NoNorm()),
            width_pointer="" if weights is None else f"{parent}/{weights}/width",
            follows_weights=weights is not None and weights == index - 1,
            activation="identity" if activation is None else activation.activation or self.activation,
            activation_pointer=f"{parent}/{index + 1}/activation" if has_own else "/activation",
        )

    def _acting_norms(self, elements: tuple[AnyElement, ...], index: int) -> Iterator[NormSpec]:
        """Those of the weights at `index`, up to the next weights or sum."""
        for element in elements[index + 1 :]:
            if isinstance(element, WeightsElement | ResidualElement):
                return
            spec = element.spec_in(self) if isinstance(element, NormElement) else None
            if spec is not None and spec.acts_on_weights:
                yield spec

    def _faults(self, elements: tuple[AnyElement, ...], pointer: str) -> Iterator[tuple[str, str, str]]:
        for index, element in enumerate(elements):
            at = f"{pointer}/{index}"
            if isinstance(element, ResidualElement):
                yield from self._faults(element.body, f"{at}/body")
                yield from self._faults(element.shortcut, f"{at}/shortcut")
            elif isinstance(element, WeightsElement) and len(list(self._acting_norms(elements, index))) > 1:
                yield (
                    at,
                    "Two normalizations behind it act on its weights; leave one of them out",
                    "two_norms_of_weights",
                )
            elif isinstance(element, NormElement):
                spec = element.spec_in(self)
                if spec is not None and spec.acts_on_weights and _weights_in_front(elements, index) is None:
                    detail = "It acts on weights, and no layer with weights is in front of it in this list"
                    yield at, detail, "weights_not_in_front"


def _weights_in_front(elements: tuple[AnyElement, ...], index: int) -> int | None:
    """The place of the last weights in front, if no sum is between."""
    for place in range(index - 1, -1, -1):
        if isinstance(elements[place], WeightsElement):
            return place
        if isinstance(elements[place], ResidualElement):
            return None
    return None


def _extent(elements: tuple[AnyElement, ...]) -> tuple[int, int]:
    """How many layers there are, and how many residual blocks are within one another."""
    inner = [_extent(each) for one in elements if isinstance(one, ResidualElement) for each in (one.body, one.shortcut)]
    nested = any(isinstance(element, ResidualElement) for element in elements)
    return len(elements) + sum(count for count, _ in inner), int(nested) + max((deep for _, deep in inner), default=0)
