"""Long short-term memory (Hochreiter and Schmidhuber 1997), with the forget gate of Gers et al. 2000."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Recurrent
from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.network.positions import each_once, known
from bncore.spec.network.recurrent import POSITIONS, InsideNorm, RecurrentNormsAt, RecurrentSpec

_Position = Literal["input", "input_to_hidden", "hidden_to_hidden", "cell", "between_layers", "head", "logits"]
_ORDER = get_args(_Position)
_MISSING: Mapping[str, str] = {
    "sum": "An rnn normalizes the sum of both projections; use input_to_hidden and hidden_to_hidden",
}


class LstmNormsAt(RecurrentNormsAt):
    """Normalizations of single positions of an lstm, whatever its `norm` is. null: as `norm` says."""

    missing: ClassVar[Mapping[str, str]] = _MISSING

    cell: InsideNorm | None = Field(default=None, description="Of the cell on its way out.")


class LstmSpec(RecurrentSpec):
    """An LSTM: torch's, or with batch norm (arXiv 1603.09025, 1510.01378) or layer norm (1607.06450) inside."""

    cell: ClassVar[Cell] = "lstm"
    norm_order: ClassVar[tuple[str, ...]] = _ORDER

    kind: Literal["lstm"] = "lstm"
    norm_positions: Annotated[
        tuple[Annotated[_Position, known(_ORDER, _MISSING)], ...] | None,
        Field(strict=False, description=POSITIONS),
        each_once(_ORDER),
    ] = None
    norms_at: LstmNormsAt | None = Field(default=None, description="Normalizations that a position has to itself.")
    forget_bias: float = Field(
        default=1.0,
        ge=-100.0,
        le=100.0,
        description="Added to the bias of the forget gate at first; 0 where there are no biases.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_bias_is_shown_as_such(cls, value: Any) -> Any:
        # The default would be refused when the complete spec is read again.
        if isinstance(value, dict) and value.get("bias") is False and "forget_bias" not in value:
            return {**value, "forget_bias": 0.0}
        return value

    @model_validator(mode="after")
    def _has_a_bias_to_set(self) -> "LstmSpec":
        if not self.bias and self.forget_bias != 0.0:
            detail = "There are no biases; use 0, or set bias to true"
            faults = [("/forget_bias", detail, "no_bias_to_set")]
            raise PydanticCustomError("cross_field", detail, {"faults": faults})
        return self

    def recurrent(self, number: int) -> Recurrent:
        return replace(super().recurrent(number), forget_bias=self.forget_bias)
