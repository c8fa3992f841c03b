"""What a network of the user's own is listed of: each element says which primitive it is, given its neighbours.

What an element leaves open (a norm, an activation, a bias) is the network's, so that the same list can be compared with
several of them.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from bncore.spec.blueprint import (
    Activation,
    ActivationName,
    Conv2d,
    Dropout,
    Flatten,
    GlobalPool,
    Linear,
    Norm,
    Pool,
    Primitive,
    Subsample,
)
from bncore.spec.network.layered import Bias, HiddenLayers
from bncore.spec.norm import NoNorm, NormSpec
from bncore.spec.strict import Count, Integer, SpecModel

LIST_LENGTH = 200


@dataclass(frozen=True)
class Neighbours:
    """What stands around an element, and where it stands itself."""

    pointer: str
    norm_behind: NormSpec | None = None
    """Right behind it."""
    weight_norm: NormSpec = field(default_factory=NoNorm)
    """Behind it and in front of the next weights."""
    width_pointer: str = ""
    """Of the weights in front."""
    follows_weights: bool = False
    activation: ActivationName = "identity"
    """Right behind it."""
    activation_pointer: str = ""


class Element(SpecModel):
    """A layer of the list."""

    @abstractmethod
    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive | None:
        """Which layer it is, if it is one."""


class WeightsElement(Element):
    """Linear and convolutional layers."""

    width: Count
    bias: Bias | None = Field(default=None, description="null: the network's.")

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        bias = network.bias if self.bias is None else self.bias
        is_dead = bias == "auto" and near.norm_behind is not None and near.norm_behind.cancels_bias(self.width)
        has_bias = bias is not False and not is_dead
        return replace(self.weights(network), bias=has_bias, weight_norm=near.weight_norm, pointer=near.pointer)

    @abstractmethod
    def weights(self, network: HiddenLayers) -> Linear | Conv2d:
        """As the network draws them."""


class LinearElement(WeightsElement):
    """A linear layer on vectors."""

    kind: Literal["linear"] = "linear"

    def weights(self, network: HiddenLayers) -> Linear:
        return network.linear(self.width)


class ConvElement(WeightsElement):
    """A convolution with same padding: the image is divided by the stride, rounded up."""

    kind: Literal["conv"] = "conv"
    kernel_size: Annotated[Literal[1, 3, 5, 7, 9, 11], Integer] = 3
    stride: int = Field(default=1, ge=1, le=8)
    groups: Count = Field(default=1, description="As many as there are channels: a depthwise convolution.")

    def weights(self, network: HiddenLayers) -> Conv2d:
        cure = "use a smaller stride"
        place = "This convolution"
        return network.conv(
            self.width, self.kernel_size, stride=self.stride, groups=self.groups, place=place, cure=cure
        )


class PoolElement(Element):
    """The maximum or the average of windows."""

    kind: Literal["pool"] = "pool"
    how: Literal["max", "average"] = "max"
    size: Annotated[Literal[2, 3], Integer] = Field(default=2, description="3 has a padding of one pixel.")
    stride: int = Field(default=2, ge=1, le=8)

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        place, cure = "This layer", "leave it out"
        return Pool(
            how=self.how, kernel_size=self.size, stride=self.stride, pointer=near.pointer, place=place, cure=cure
        )


class SubsampleElement(Element):
    """Every `stride`-th pixel, and channels of zeros up to `width`: shortcut A of arXiv 1512.03385."""

    kind: Literal["subsample"] = "subsample"
    width: Count
    stride: int = Field(default=2, ge=1, le=8)

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        return Subsample(width=self.width, stride=self.stride, pointer=near.pointer)


class GlobalPoolElement(Element):
    """The average over all positions; the image has one pixel behind it."""

    kind: Literal["global_pool"] = "global_pool"

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        return GlobalPool(pointer=near.pointer)


class FlattenElement(Element):
    """All values of an example as one vector."""

    kind: Literal["flatten"] = "flatten"

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        return Flatten()


class ActivationElement(Element):
    """Applied to each value."""

    kind: Literal["activation"] = "activation"
    activation: ActivationName | None = Field(default=None, description="null: the network's.")

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive:
        return Activation(name=self.activation or network.activation)


class DropoutElement(Element):
    """Zeroes values in training."""

    kind: Literal["dropout"] = "dropout"
    probability: float | None = Field(default=None, ge=0.0, lt=1.0, description="null: the network's dropout.")

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive | None:
        probability = network.dropout if self.probability is None else self.probability
        return Dropout(probability=probability) if probability > 0.0 else None


class NormElement(Element):
    """A normalization; one of weights is that of the weights in front."""

    kind: Literal["norm"] = "norm"
    norm: NormSpec | None = Field(
        default=None, description="null: the network's norm, if hidden is among its norm_positions."
    )

    def spec_in(self, network: HiddenLayers) -> NormSpec | None:
        """Which one it is in that network."""
        if self.norm is not None:
            return self.norm
        return network.norm if "hidden" in network.norm_positions else None

    def primitive(self, network: HiddenLayers, near: Neighbours) -> Primitive | None:
        spec = self.spec_in(network)
        if spec is None:
            return None
        return Norm(
            spec=spec,
            pointer="/norm" if self.norm is None else f"{near.pointer}/norm",
            width_pointer=near.width_pointer or near.pointer,
            activation=near.activation,
            activation_pointer=near.activation_pointer,
            follows_weights=near.follows_weights,
        )


class ResidualElement(SpecModel):
    """`body(x) + shortcut(x)`; a shortcut without layers is x itself."""

    kind: Literal["residual"] = "residual"
    body: "Elements" = Field(min_length=1)
    shortcut: "Elements" = ()


AnyElement = Annotated[
    LinearElement
    | ConvElement
    | PoolElement
    | SubsampleElement
    | GlobalPoolElement
    | FlattenElement
    | ActivationElement
    | DropoutElement
    | NormElement
    | ResidualElement,
    Field(discriminator="kind"),
]
Elements = Annotated[tuple[AnyElement, ...], Field(strict=False, max_length=LIST_LENGTH)]

ResidualElement.model_rebuild()
