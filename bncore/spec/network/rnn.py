"""Simple recurrent networks (Elman 1990)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from bncore.spec.blueprint import Recurrent
from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.network.positions import each_once, known
from bncore.spec.network.recurrent import POSITIONS, InsideNorm, RecurrentNormsAt, RecurrentSpec
from bncore.spec.norm.recurrent import RecurrentLayerNormSpec

_Position = Literal["input", "input_to_hidden", "hidden_to_hidden", "sum", "between_layers", "head", "logits"]
_ORDER = get_args(_Position)
_MISSING: Mapping[str, str] = {"cell": "Only an lstm has a cell beside its state; use sum, or the kind lstm"}


class RnnNormsAt(RecurrentNormsAt):
    """Normalizations of single positions of an rnn, whatever its `norm` is. null: as `norm` says."""

    missing: ClassVar[Mapping[str, str]] = _MISSING

    sum: InsideNorm | None = Field(default=None, description="Of W_x x + W_h h.")


class RnnSpec(RecurrentSpec):
    """A simple recurrent network: `h' = tanh(W_x x + W_h h + b)`."""

    cell: ClassVar[Cell] = "rnn"
    norm_order: ClassVar[tuple[str, ...]] = _ORDER

    kind: Literal["rnn"] = "rnn"
    norm_positions: Annotated[
        tuple[Annotated[_Position, known(_ORDER, _MISSING)], ...] | None,
        Field(strict=False, description=POSITIONS),
        each_once(_ORDER),
    ] = None
    norms_at: RnnNormsAt | None = Field(default=None, description="Normalizations that a position has to itself.")
    activation: Literal["tanh", "relu"] = Field(
        default="tanh", description="relu with recurrent_init identity is the IRNN of arXiv 1504.00941."
    )

    def recurrent(self, number: int) -> Recurrent:
        return replace(super().recurrent(number), nonlinearity=self.activation)

    def usual_positions(self) -> tuple[str, ...]:
        return ("sum",) if isinstance(self.norm, RecurrentLayerNormSpec) else super().usual_positions()
