"""Gated recurrent units (Cho et al., arXiv 1406.1078)."""

from typing import ClassVar, Literal

from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.network.recurrent import RecurrentSpec


class GruSpec(RecurrentSpec):
    """A network of gated recurrent units as torch has them: the reset gate scales the projection, not the state."""

    cell: ClassVar[Cell] = "gru"

    kind: Literal["gru"] = "gru"
