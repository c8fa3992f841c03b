"""What networks share: which layers are normalized, and how weights, normalization and activation follow each other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import (
    Activation,
    ActivationName,
    Chain,
    Conv2d,
    Dropout,
    Linear,
    Norm,
    Primitive,
    Residual,
)
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.any_network import INPUT_NORM_EPS, AnyNetwork
from bncore.spec.network.positions import each_once
from bncore.spec.norm import BatchNormSpec, NoNorm, NormSpec

Placement = Literal["before_activation", "after_activation"]
Position = Literal["input", "hidden", "shortcut", "logits"]
Plain = Iterator[tuple[str, Primitive]]
Layers = Iterator[tuple[str, Primitive | Chain | Residual]]

_ORDER: tuple[Position, ...] = ("input", "hidden", "shortcut", "logits")


def _a_choice(value: object) -> object:
    if isinstance(value, bool) or value == "auto":
        return value
    raise PydanticCustomError("bool_or_auto", "Should be true, false or auto")


EachOnce = each_once(_ORDER)
PlainPositions = Annotated[
    tuple[Literal["input", "hidden", "logits"], ...],
    Field(
        strict=False,
        description="Which layers are normalized: hidden ones, logits (the output), input (means normalize_input, and "
        "is shown as that).",
    ),
    EachOnce,
]
Bias = Annotated[bool | Literal["auto"], BeforeValidator(_a_choice)]


class HiddenLayers(AnyNetwork):
    """What hidden layers have in every network."""

    takes: ClassVar[tuple[SignalKind, ...]] = ("image",)
    norm_order: ClassVar[tuple[str, ...]] = _ORDER

    activation: ActivationName = Field(default="relu", description="Of hidden layers.")
    norm: NormSpec = Field(default_factory=BatchNormSpec, description="Of hidden layers.")
    norm_positions: tuple[Position, ...]
    normalize_input: bool = Field(
        default=False,
        description="Standardize the input with batch statistics (no scale or shift, equal-weight running averages, "
        f"eps {INPUT_NORM_EPS}).",
    )
    bias: Bias = Field(
        default=True,
        description="Give hidden layers a bias. A mean-subtracting normalization right behind them cancels it; it is "
        "kept by default so that arms of a comparison share every weight. auto leaves out those that are cancelled.",
    )
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Probability of zeroing an activation.")

    def linear(self, width: int) -> Linear:
        """A hidden layer's weights."""
        return Linear(
            width=width,
            bias=self.bias is not False,
            init=self.init,
            init_scale=self.init_scale,
            weight_norm=self.norm_of_weights("hidden"),
        )

    def conv(self, width: int, kernel_size: int, position: Position = "hidden", **window: Any) -> Conv2d:
        """The same for images; `window` is what `Conv2d` takes besides."""
        return Conv2d(
            width=width,
            kernel_size=kernel_size,
            bias=self.bias is not False,
            init=self.init,
            init_scale=self.init_scale,
            weight_norm=self.norm_of_weights(position),
            **window,
        )

    def norm_of_weights(self, position: Position) -> NormSpec:
        """What is done to the weights there, if it is their normalization."""
        return self.norm if position in self.norm_positions else NoNorm()

    def without_dead_bias(self, weights: Linear | Conv2d, *, is_normed: bool) -> Linear | Conv2d:
        """The weights as they are in front of a normalization, or not: `auto` leaves out a bias that it cancels."""
        if self.bias == "auto" and is_normed and self.norm.cancels_bias(weights.width):
            return replace(weights, bias=False)
        return weights

    def norm_layer(self, position: Position = "hidden", **neighbours: Any) -> Norm | None:
        """The normalization at a position, if it has one; `neighbours` is what `Norm` takes besides."""
        if position not in self.norm_positions:
            return None
        neighbours = {"activation": self.activation, "width_pointer": f"/{self.width_field}", **neighbours}
        return Norm(spec=self.norm, pointer="/norm", **neighbours)

    def activated(self, norm: Norm | None, number: int | str = "", *, norm_first: bool) -> Plain:
        """An activation, a normalization before or behind it, then dropout; `number` is added to their names."""
        if norm is not None and norm_first:
            yield f"norm{number}", norm
        yield f"activation{number}", Activation(name=self.activation)
        if norm is not None and not norm_first:
            yield f"norm{number}", norm
        if self.dropout > 0.0:
            yield f"dropout{number}", Dropout(probability=self.dropout)

    def output(self, classes: int) -> Plain:
        """The last layer, normalized if that is asked for. It has a bias unless `auto` finds it cancelled."""
        norm = self.norm_layer("logits", activation="identity")
        where, weight_norm = f"/{self.width_field}", self.norm_of_weights("logits")
        linear = replace(self.linear(classes), bias=True, weight_norm=weight_norm, pointer=where)
        yield "output", self.without_dead_bias(linear, is_normed=norm is not None)
        if norm is not None:
            yield "output_norm", norm


class LayeredSpec(HiddenLayers):
    """Plain networks: each hidden layer is weights, then normalization and activation by `placement`, then dropout."""

    norm_positions: PlainPositions = ("hidden",)
    placement: Placement = Field(default="before_activation", description="Where the normalization sits.")

    def layer(self, name: str, weights: Linear | Conv2d, number: int, **neighbours: Any) -> Plain:
        """Hidden layer `number` of its chain, whose weights have that name."""
        norm = self.norm_layer(placement=self.placement, **neighbours)
        norm_first = self.placement == "before_activation"
        yield name, self.without_dead_bias(weights, is_normed=norm is not None and norm_first)
        yield from self.activated(norm, number, norm_first=norm_first)
