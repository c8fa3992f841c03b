"""What the plain feed-forward networks share: hidden layers of weights, normalization and activation, dropout."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Activation, ActivationName, Chain, Dropout, Norm, Primitive, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.norm import BatchNormSpec, NormSpec
from bncore.spec.strict import SpecModel

Placement = Literal["before_activation", "after_activation"]

INPUT_NORM_EPS = 1e-2
"""A floor of 0.1 under the standard deviation of an input feature: a pixel that is constant in the training data but
not in the test data would otherwise be magnified some hundred times."""


class HiddenLayers(SpecModel):
    """What hidden layers have in every network."""

    width_field: ClassVar[str]
    """The field that says how wide hidden layers are."""
    takes: ClassVar[tuple[SignalKind, ...]] = ("image",)
    """What an example may be."""
    takes_lengths: ClassVar[bool] = False
    """Whether an example may be a sequence with padding behind its end."""

    activation: ActivationName = "relu"
    norm: NormSpec = Field(default_factory=BatchNormSpec)
    normalize_input: bool = Field(
        default=False,
        description="Standardize the input with batch statistics (no scale or shift, equal-weight running averages, "
        f"eps {INPUT_NORM_EPS}).",
    )
    bias: bool = Field(
        default=True,
        description="Give hidden layers a bias. A mean-subtracting normalization right behind them cancels it; it is "
        "kept by default so that arms of a comparison share every weight.",
    )
    init: InitSpec = Field(default_factory=DefaultInit)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Probability of zeroing an activation.")

    @property
    def tags(self) -> bool:
        """Whether there is an output for each step of a sequence."""
        return False

    @abstractmethod
    def blueprint(self, signal: Signal, classes: int) -> Chain:
        """The network for such inputs and so many classes."""

    def input_norm(self) -> Iterator[tuple[str, Primitive]]:
        """Behind the input, if it is to be standardized."""
        if self.normalize_input:
            spec = BatchNormSpec(affine=False, eps=INPUT_NORM_EPS, momentum=None)
            yield "input_norm", Norm(spec=spec, stream=0)

    def dropped(self, name: str) -> Iterator[tuple[str, Primitive]]:
        """Behind an activation, if some of it is to be dropped."""
        if self.dropout > 0.0:
            yield name, Dropout(probability=self.dropout)


class LayeredSpec(HiddenLayers):
    """Plain networks: each hidden layer is weights, then normalization and activation by `placement`, then dropout.

    `width_field` holds the width of each.
    """

    placement: Placement = Field(default="before_activation", description="Where the normalization sits.")

    def norm_and_activation(self, number: int) -> Iterator[tuple[str, Primitive]]:
        """Behind the weights of hidden layer `number`, which counts from 1."""
        widths: tuple[int, ...] = getattr(self, self.width_field)
        norm = Norm(
            spec=self.norm,
            stream=number,
            pointer="/norm",
            width_pointer=f"/{self.width_field}/{number - 1}",
            activation=self.activation,
            placement=self.placement,
            common_divisor=math.gcd(*widths),
        )
        if self.placement == "before_activation":
            yield f"norm{number}", norm
        yield f"activation{number}", Activation(name=self.activation)
        if self.placement == "after_activation":
            yield f"norm{number}", norm
        yield from self.dropped(f"dropout{number}")
