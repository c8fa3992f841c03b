"""What networks of sequences share: input that may be standardized and padded, and what the classes are told from."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from bncore.spec.blueprint import Chain, Dropout, Linear, Norm, Primitive, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.init import DefaultInit, InitSpec, Std
from bncore.spec.network.layered import INPUT_NORM_EPS
from bncore.spec.norm import BatchNormSpec
from bncore.spec.strict import SpecModel


class SequenceSpec(SpecModel):
    """Sequences may have different lengths: what stands behind the end of one changes nothing."""

    width_field: ClassVar[str]
    """The field that says how wide hidden layers are."""
    takes: ClassVar[tuple[SignalKind, ...]] = ("sequence",)
    """What an example may be."""
    takes_lengths: ClassVar[bool] = True
    """Whether an example may be a sequence with padding behind its end."""

    output: str
    normalize_input: bool = Field(
        default=False,
        description="Standardize each feature of the input over all steps of the batch (no scale or shift, "
        f"equal-weight running averages, eps {INPUT_NORM_EPS}).",
    )
    init: InitSpec = Field(default_factory=DefaultInit)
    init_scale: Std = Field(
        default=1.0,
        description="Multiplies the standard deviation of every weight that init draws, in all layers, and of the "
        "biases where init draws them (default).",
    )
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def tags(self) -> bool:
        """Whether there is an output for each step of a sequence."""
        return self.output == "each_step"

    @abstractmethod
    def blueprint(self, signal: Signal, classes: int) -> Chain:
        """The network for such inputs and so many classes."""

    def classifier(self, classes: int) -> Linear:
        """The last layer."""
        return Linear(width=classes, init=self.init, init_scale=self.init_scale)

    def input_norm(self) -> Iterator[tuple[str, Primitive]]:
        """Behind the input, if it is to be standardized."""
        if self.normalize_input:
            yield "input_norm", Norm(spec=BatchNormSpec(affine=False, eps=INPUT_NORM_EPS, momentum=None), stream=0)

    def dropped(self, name: str) -> Iterator[tuple[str, Primitive]]:
        """Where some of the values are to be dropped."""
        if self.dropout > 0.0:
            yield name, Dropout(probability=self.dropout)
