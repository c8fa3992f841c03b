"""Gated recurrent units (Cho et al., arXiv 1406.1078)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.network.positions import each_once, known
from bncore.spec.network.recurrent import POSITIONS, RecurrentNormsAt, RecurrentSpec

_Position = Literal["input", "input_to_hidden", "hidden_to_hidden", "between_layers", "head", "logits"]
_ORDER = get_args(_Position)
_MISSING: Mapping[str, str] = {
    "cell": "Only an lstm has a cell beside its state; use hidden_to_hidden, or the kind lstm",
    "sum": "Its reset gate scales W_h h before the sum, so that there is none of all gates; use input_to_hidden and "
    "hidden_to_hidden",
}


class GruNormsAt(RecurrentNormsAt):
    """Normalizations of single positions of a gru, whatever its `norm` is. null: as `norm` says."""

    missing: ClassVar[Mapping[str, str]] = _MISSING


class GruSpec(RecurrentSpec):
    """A network of gated recurrent units as torch has them: the reset gate scales the projection, not the state."""

    cell: ClassVar[Cell] = "gru"
    norm_order: ClassVar[tuple[str, ...]] = _ORDER

    kind: Literal["gru"] = "gru"
    norm_positions: Annotated[
        tuple[Annotated[_Position, known(_ORDER, _MISSING)], ...] | None,
        Field(strict=False, description=POSITIONS),
        each_once(_ORDER),
    ] = None
    norms_at: GruNormsAt | None = Field(default=None, description="Normalizations that a position has to itself.")
