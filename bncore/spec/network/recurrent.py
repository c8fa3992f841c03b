"""Recurrent networks: layers of one kind of cell on top of each other, and a linear layer for the classes."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, OverTime, Primitive, Recurrent, Signal
from bncore.spec.blueprint.recurrent import Cell, RecurrentInit
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.network.layered import Bias
from bncore.spec.network.sequences import SequenceSpec
from bncore.spec.norm import NormSpec
from bncore.spec.norm.recurrent import RecurrentNormSpec, StepBatchNormSpec
from bncore.spec.strict import Count

_OF_BATCHES = {member.model_fields["kind"].default for member in get_args(get_args(NormSpec)[0])} - {
    member.model_fields["kind"].default for member in get_args(get_args(RecurrentNormSpec)[0])
}


class RecurrentSpec(SequenceSpec):
    """What they share."""

    width_field: ClassVar[str] = "hidden"
    cell: ClassVar[Cell]

    hidden: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=20)] = Field(
        default=(100,), description="Hidden units of each layer, from the input on."
    )
    norm: RecurrentNormSpec = Field(default_factory=StepBatchNormSpec, description="Inside each layer.")
    bidirectional: bool = Field(
        default=False, description="Each layer also reads from the end, and gives both outputs to the next."
    )
    output: Literal["last", "mean", "each_step"] = Field(
        default="last",
        description="What the classes are told from: the state after the last step (of the backward direction, after "
        "the first), the mean of all steps, or each step by itself, which labels each step (tagging).",
    )
    bias: Bias = Field(
        default=True,
        description="Give recurrent layers biases; auto means true, since they are added behind the normalizations.",
    )
    init: InitSpec = Field(
        default_factory=DefaultInit, description="Of the matrices that read the input, and of the output layer."
    )
    recurrent_init: RecurrentInit = Field(
        default="orthogonal",
        description="Of the matrices that read the state: a (semi-)orthogonal matrix for all gates together; identity "
        "for the block of the candidate (of an rnn, all of it) and orthogonal ones for the others; or as `init` says.",
    )
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Probability of zeroing an output of each layer but the last."
    )

    @field_validator("norm", mode="before")
    @classmethod
    def _has_a_form_in_a_recurrence(cls, value: Any) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in _OF_BATCHES:
            detail = (
                f"{kind} does not say what happens in a recurrence; use sequence_batch_norm (statistics of all steps), "
                "step_batch_norm (of each time step), layer_norm or none"
            )
            faults = [("/kind", detail, "no_form_in_a_recurrence")]
            raise PydanticCustomError("cross_field", "no form in a recurrence", {"faults": faults})
        return value

    @model_validator(mode="after")
    def _drops_between_layers(self) -> "RecurrentSpec":
        if self.dropout > 0.0 and len(self.hidden) == 1:
            detail = "It is between layers, and there is one; use 0 or a second layer"
            faults = [("/dropout", detail, "dropout_without_effect")]
            raise PydanticCustomError("cross_field", detail, {"faults": faults})
        return self

    def draws_biases(self) -> bool:
        """Whether recurrent layers have biases that are not 0 at first."""
        return self.bias is not False and isinstance(self.init, DefaultInit)

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def recurrent(self, number: int) -> Recurrent:
        """Layer `number`, which counts from 1."""
        return Recurrent(
            cell=self.cell,
            hidden=self.hidden[number - 1],
            bidirectional=self.bidirectional,
            norm=self.norm,
            bias=self.bias is not False,
            init=self.init,
            init_scale=self.init_scale,
            recurrent_init=self.recurrent_init,
            width_pointer=f"/hidden/{number - 1}",
        )

    def _layers(self, classes: int) -> Iterator[tuple[str, Primitive]]:
        yield from self.input_norm()
        for number in range(1, len(self.hidden) + 1):
            yield f"recurrent{number}", self.recurrent(number)
            if number < len(self.hidden):
                yield from self.dropped(f"dropout{number}")
        if self.output != "each_step":
            yield "pool", OverTime(how=self.output, bidirectional=self.bidirectional and self.output == "last")
        yield "output", self.classifier(classes)
