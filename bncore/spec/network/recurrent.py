"""Recurrent networks: layers of one kind of cell on top of each other, and a linear layer for the classes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, assert_never, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, Norm, OverTime, Primitive, Recurrent, Signal
from bncore.spec.blueprint.recurrent import Cell, Inside, Place, RecurrentInit
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.network.layered import Bias
from bncore.spec.network.positions import NormsAt, said_twice
from bncore.spec.network.sequences import OutsideNorm, SequenceSpec
from bncore.spec.norm import BatchNormSpec, LayerNormSpec, NoNorm, NormSpec
from bncore.spec.norm.recurrent import (
    RecurrentLayerNormSpec,
    RecurrentNormSpec,
    SequenceBatchNormSpec,
    StepBatchNormSpec,
)
from bncore.spec.strict import Count

_OF_BATCHES = {member.model_fields["kind"].default for member in get_args(get_args(NormSpec)[0])} - {
    member.model_fields["kind"].default for member in get_args(get_args(RecurrentNormSpec)[0])
}
PLACES: Mapping[str, Place] = {
    "input_to_hidden": "norm_ih",
    "hidden_to_hidden": "norm_hh",
    "sum": "norm_h",
    "cell": "norm_c",
}
"""Positions in the recurrence. Between the first and the others lies what is not known before the recurrence is."""
OUTSIDE = ("between_layers", "head", "logits")


def _has_a_form_in_a_recurrence(value: Any) -> Any:
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in _OF_BATCHES:
        detail = (
            f"{kind} does not say what happens in a recurrence; use sequence_batch_norm (statistics of all steps), "
            "step_batch_norm (of each time step), layer_norm or none"
        )
        faults = [("/kind", detail, "no_form_in_a_recurrence")]
        raise PydanticCustomError("cross_field", "no form in a recurrence", {"faults": faults})
    return value


InsideNorm = Annotated[RecurrentNormSpec, BeforeValidator(_has_a_form_in_a_recurrence)]
"""Of a position in the recurrence."""
POSITIONS = (
    "Where norm stands: input_to_hidden (W_x x), hidden_to_hidden (W_h h), their sum (rnn), cell (lstm, on its way "
    "out), between_layers (what a layer hands on), head (what the classes are told from), logits (the output), input "
    "(means normalize_input, and is shown as that). null: where its paper has it."
)


class RecurrentNormsAt(NormsAt):
    """Normalizations of single positions of a recurrent network, whatever its `norm` is. null: as `norm` says."""

    input_to_hidden: InsideNorm | None = Field(default=None, description="Of W_x x.")
    hidden_to_hidden: InsideNorm | None = Field(default=None, description="Of W_h h.")
    between_layers: OutsideNorm | None = Field(default=None, description="Of what each layer but the last hands on.")
    head: OutsideNorm | None = Field(default=None, description="Of what the classes are told from.")
    logits: OutsideNorm | None = Field(default=None, description="Of the output.")


class RecurrentSpec(SequenceSpec):
    """What they share."""

    width_field: ClassVar[str] = "hidden"
    cell: ClassVar[Cell]

    hidden: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=20)] = Field(
        default=(100,), description="Hidden units of each layer, from the input on."
    )
    norm: InsideNorm = Field(default_factory=StepBatchNormSpec, description="Inside each layer.")
    norm_positions: tuple[str, ...] | None = None
    norms_at: RecurrentNormsAt | None = None
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

    @model_validator(mode="after")
    def _drops_between_layers(self) -> "RecurrentSpec":
        if self.dropout > 0.0 and len(self.hidden) == 1:
            detail = "It is between layers, and there is one; use 0 or a second layer"
            faults = [("/dropout", detail, "dropout_without_effect")]
            raise PydanticCustomError("cross_field", detail, {"faults": faults})
        return self

    @model_validator(mode="after")
    def _norms_stand_where_they_can(self) -> "RecurrentSpec":
        faults = [*said_twice(self.norm_positions, self.norms_at)]
        own = self.norms_at.said() if self.norms_at is not None else ()
        for position in self.norm_order:
            norm, pointer = self.norm_at(position)
            where = f"{pointer}/kind" if position in own else "/norm_positions"
            faults += [(where, *said) for said in _objections(position, norm, len(self.hidden))]
        if faults:
            raise PydanticCustomError("cross_field", "a normalization stands wrong", {"faults": faults})
        return self

    def draws_biases(self) -> bool:
        """Whether recurrent layers have biases that are not 0 at first."""
        return self.bias is not False and isinstance(self.init, DefaultInit)

    def norm_at(self, position: str) -> tuple[InsideNorm | NormSpec, str]:
        """What stands at a position, and the field that says so."""
        own = getattr(self.norms_at, position, None)
        if own is not None:
            return own, f"/norms_at/{position}"
        listed = self.usual_positions() if self.norm_positions is None else self.norm_positions
        return (self.norm, "/norm") if position in listed else (NoNorm(), "")

    def usual_positions(self) -> tuple[str, ...]:
        """Where the paper of `norm` has it, of those that the cell has."""
        match self.norm:
            case NoNorm():
                return ()
            case SequenceBatchNormSpec():
                return ("input_to_hidden",)
            case StepBatchNormSpec() | RecurrentLayerNormSpec():
                return ("input_to_hidden", "hidden_to_hidden", "cell")
            case _:
                assert_never(self.norm)

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def recurrent(self, number: int) -> Recurrent:
        """Layer `number`, which counts from 1."""
        return Recurrent(
            cell=self.cell,
            hidden=self.hidden[number - 1],
            bidirectional=self.bidirectional,
            norms=tuple(self._inside()),
            bias=self.bias is not False,
            init=self.init,
            init_scale=self.init_scale,
            recurrent_init=self.recurrent_init,
            width_pointer=f"/hidden/{number - 1}",
        )

    def _inside(self) -> Iterator[Inside]:
        for position, place in PLACES.items():
            norm, pointer = self.norm_at(position) if position in self.norm_order else (NoNorm(), "")
            if isinstance(norm, SequenceBatchNormSpec | StepBatchNormSpec | RecurrentLayerNormSpec):
                yield Inside(place, norm, pointer)

    def _layers(self, classes: int) -> Iterator[tuple[str, Primitive]]:
        yield from self.input_norm()
        count = len(self.hidden)
        for number in range(1, count + 1):
            yield f"recurrent{number}", self.recurrent(number)
            if number < count:
                yield from self._outside("between_layers", f"norm{number}", number)
                yield from self.dropped(f"dropout{number}")
        if self.output != "each_step":
            yield "pool", OverTime(how=self.output, bidirectional=self.bidirectional and self.output == "last")
        yield from self._outside("head", "norm", count)
        logits, pointer = self.norm_at("logits")
        yield from self.classifier(classes, _of_batches(logits), pointer)

    def _outside(self, position: str, name: str, number: int) -> Iterator[tuple[str, Primitive]]:
        """The normalization behind layer `number`."""
        norm, pointer = self.norm_at(position)
        spec = _of_batches(norm)
        if not isinstance(spec, NoNorm):
            yield name, Norm(spec=spec, pointer=pointer, width_pointer=f"/hidden/{number - 1}", follows_weights=False)


def _objections(position: str, norm: RecurrentNormSpec | NormSpec, layers: int) -> Iterator[tuple[str, str]]:
    """What there is against a normalization at a position, with codes."""
    if position in PLACES and position != "input_to_hidden" and isinstance(norm, SequenceBatchNormSpec):
        detail = (
            f"sequence_batch_norm takes its statistics over all steps, and {position} of a step is not known before "
            "the step in front of it is normalized; use step_batch_norm, layer_norm or none"
        )
        yield detail, "norm_cannot_stand_here"
    if position in OUTSIDE and isinstance(norm, StepBatchNormSpec):
        detail = f"step_batch_norm is for what is inside of a recurrence; give batch_norm as norms_at.{position}"
        yield detail, "not_in_a_recurrence"
    if position == "between_layers" and layers == 1 and not isinstance(norm, NoNorm):
        yield "It is between layers, and there is one; leave it out or use a second layer", "norm_without_effect"
    if position in ("between_layers", "head") and norm.acts_on_weights:
        yield f"{norm.name} acts on weights, and {position} has none; use another, or logits", "no_weights_here"


def _of_batches(norm: RecurrentNormSpec | NormSpec) -> NormSpec:
    """What a normalization of recurrences is outside of them."""
    match norm:
        case SequenceBatchNormSpec():
            return BatchNormSpec(eps=norm.eps, momentum=norm.momentum, affine=norm.affine)
        case RecurrentLayerNormSpec():
            return LayerNormSpec(eps=norm.eps)
        case StepBatchNormSpec():
            raise ValueError("it is refused outside of recurrences")
        case _:
            return norm
