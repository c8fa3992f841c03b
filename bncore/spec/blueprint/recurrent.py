"""Recurrent layers, without torch: one layer of `torch.nn.RNN`, `LSTM` or `GRU`, or of cells with norms inside."""

from dataclasses import dataclass, field
from typing import Literal, assert_never

from bncore.spec.blueprint.layer import Layer
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.norm import NoNorm
from bncore.spec.norm.recurrent import (
    RecurrentLayerNormSpec,
    RecurrentNormSpec,
    SequenceBatchNormSpec,
    StepBatchNormSpec,
)

Cell = Literal["rnn", "lstm", "gru"]
RecurrentInit = Literal["orthogonal", "identity", "as_init"]

GATES: dict[Cell, int] = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """(T, F) to (T, H), or (T, 2 H) of both directions. `width_pointer` names the field that holds H."""

    cell: Cell
    hidden: int
    bidirectional: bool = False
    norm: RecurrentNormSpec = field(default_factory=NoNorm)
    bias: bool = True
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    """Of an rnn."""
    init: InitSpec = field(default_factory=DefaultInit)
    init_scale: float = 1.0
    """Multiplies what `init` draws."""
    recurrent_init: RecurrentInit = "orthogonal"
    forget_bias: float = 0.0
    width_pointer: str = ""

    @property
    def kind(self) -> str:
        return self.cell

    @property
    def directions(self) -> tuple[str, ...]:
        """In the order in which their outputs lie."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.steps, self.hidden * len(self.directions)), "sequence", signal.lengths)

    def parameters(self, signal: Signal) -> int:
        rows = GATES[self.cell] * self.hidden
        one = rows * (signal.channels + self.hidden) + self._biases()
        one += sum(self._learned(name, channels) for name, channels in self.norms().items())
        return one * len(self.directions)

    def misfit(self, signal: Signal) -> Fault | None:
        if self.hidden > 1 or not isinstance(self.norm, RecurrentLayerNormSpec):
            return None
        detail = "layer_norm would see one value, and erase it; use 2 hidden units or more"
        return Fault(self.width_pointer, detail, "one_value_per_sample")

    def norms(self) -> dict[str, int]:
        """The channels of each normalization of one direction, by its name in the cell."""
        rows = GATES[self.cell] * self.hidden
        match self.norm:
            case NoNorm():
                return {}
            case SequenceBatchNormSpec():
                return {"norm_ih": rows}
            case StepBatchNormSpec():
                return {"norm_ih": rows, "norm_hh": rows, **self._norm_of_cell()}
            case RecurrentLayerNormSpec():
                # That of an rnn is of the sum of both projections.
                own = {"norm_h": rows} if self.cell == "rnn" else {"norm_ih": rows, "norm_hh": rows}
                return {**own, **self._norm_of_cell()}
            case _:
                assert_never(self.norm)

    def _norm_of_cell(self) -> dict[str, int]:
        return {"norm_c": self.hidden} if self.cell == "lstm" else {}

    def _biases(self) -> int:
        rows = GATES[self.cell] * self.hidden
        if not self.bias or "norm_h" in self.norms():
            return 0
        if isinstance(self.norm, NoNorm):
            # torch has one for each projection.
            return 2 * rows
        return rows + (self.hidden if self.cell == "gru" else 0)

    def _learned(self, name: str, channels: int) -> int:
        if isinstance(self.norm, SequenceBatchNormSpec):
            return self.norm.parameters(channels)
        shifted = name == "norm_c" or (name == "norm_h" and self.bias)
        return channels * (2 if shifted else 1)
