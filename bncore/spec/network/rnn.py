"""Simple recurrent networks (Elman 1990)."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Recurrent
from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.network.recurrent import RecurrentSpec


class RnnSpec(RecurrentSpec):
    """A simple recurrent network: `h' = tanh(W_x x + W_h h + b)`."""

    cell: ClassVar[Cell] = "rnn"

    kind: Literal["rnn"] = "rnn"
    activation: Literal["tanh", "relu"] = Field(
        default="tanh", description="relu with recurrent_init identity is the IRNN of arXiv 1504.00941."
    )

    def recurrent(self, number: int) -> Recurrent:
        return replace(super().recurrent(number), nonlinearity=self.activation)
