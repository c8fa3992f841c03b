"""What every network says of itself, whichever its kind."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, Norm, Primitive, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.init import DefaultInit, InitSpec, Std
from bncore.spec.norm import BatchNormSpec
from bncore.spec.strict import SpecModel

INPUT_NORM_EPS = 1e-2
"""A floor of 0.1 under the standard deviation of an input feature: a pixel that is constant in the training data but
not in the test data would otherwise be magnified some hundred times."""


class AnyNetwork(SpecModel):
    """A network: what it takes, how its weights are drawn, and what it is made of."""

    width_field: ClassVar[str]
    """The field that says how wide hidden layers are."""
    takes: ClassVar[tuple[SignalKind, ...]]
    """What an example may be."""
    takes_lengths: ClassVar[bool] = False
    """Whether an example may be a sequence with padding behind its end."""
    norm_order: ClassVar[tuple[str, ...]]
    """Where its `norm_positions` may say that it is normalized, in the order of the signal."""

    normalize_input: bool = False
    init: InitSpec = Field(default_factory=DefaultInit, description="How weights are drawn.")
    init_scale: Std = Field(
        default=1.0,
        description="Multiplies the standard deviation of every weight that init draws, in all layers, and of the "
        "biases where init draws them (default).",
    )

    @model_validator(mode="before")
    @classmethod
    def _input_is_said_once(cls, value: Any) -> Any:
        # What cannot be read is left as it is: its faults are counted from the list that was sent.
        positions = value.get("norm_positions") if isinstance(value, dict) else None
        if not isinstance(positions, list | tuple) or "input" not in positions:
            return value
        if any(position not in cls.norm_order or positions.count(position) > 1 for position in positions):
            return value
        if value.get("normalize_input", True) is not True:
            return value
        rest = [position for position in positions if position != "input"]
        return {**value, "norm_positions": rest, "normalize_input": True}

    @model_validator(mode="after")
    def _input_is_said_alike(self) -> "AnyNetwork":
        if "input" in (getattr(self, "norm_positions", None) or ()) and not self.normalize_input:
            detail = "Names input, and normalize_input is false; leave one of them out"
            faults = [("/norm_positions", detail, "two_ways_to_say_it")]
            raise PydanticCustomError("cross_field", "the input is normalized or not", {"faults": faults})
        return self

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
            yield "input_norm", Norm(spec=BatchNormSpec(affine=False, eps=INPUT_NORM_EPS, momentum=None), stream=0)
