"""Recurrent layers, without torch: one layer of `torch.nn.RNN`, `LSTM` or `GRU`, or of cells with norms inside."""

from dataclasses import dataclass, field
from typing import Literal

from bncore.spec.blueprint.layer import Layer
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.norm.recurrent import RecurrentLayerNormSpec, SequenceBatchNormSpec, StepBatchNormSpec

Cell = Literal["rnn", "lstm", "gru"]
RecurrentInit = Literal["orthogonal", "identity", "as_init"]
Place = Literal["norm_ih", "norm_hh", "norm_h", "norm_c"]
"""In a cell: of W_x x, of W_h h, of their sum (rnn), of the cell on its way out (lstm)."""

_KEPT_BY_TORCH: dict[Cell, int] = {"rnn": 2, "lstm": 17, "gru": 8}
_KEPT_BY_CELL: dict[Cell, int] = {"rnn": 2, "lstm": 8, "gru": 7}
"""Numbers a step and hidden unit that autograd holds at the end of the forward pass, but for what its norms take in;
measured by hooks on saved tensors."""
GATES: dict[Cell, int] = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Inside:
    """A normalization in a cell; `pointer` names the field that it comes from."""

    place: Place
    spec: SequenceBatchNormSpec | StepBatchNormSpec | RecurrentLayerNormSpec
    pointer: str = "/norm"


@dataclass(frozen=True, kw_only=True)
class Recurrent(Layer):
    """(T, F) to (T, H), or (T, 2 H) of both directions. `width_pointer` names the field that holds H."""

    cell: Cell
    hidden: int
    bidirectional: bool = False
    norms: tuple[Inside, ...] = ()
    """At most one in each place that the cell has, in the order of `Place`."""
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

    @property
    def initial_noise(self) -> float:
        """Of the state that sequences begin with: as the step_batch_norm asks that depends on it most directly."""
        asked = {norm.place: norm.spec.initial_noise for norm in self.norms if isinstance(norm.spec, StepBatchNormSpec)}
        return next((asked[place] for place in ("norm_hh", "norm_h", "norm_c") if place in asked), 0.0)

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.steps, self.hidden * len(self.directions)), "sequence", signal.lengths)

    def parameters(self, signal: Signal) -> int:
        rows = GATES[self.cell] * self.hidden
        one = rows * (signal.channels + self.hidden) + self._biases()
        one += sum(self._learned(norm) for norm in self.norms)
        return one * len(self.directions)

    def kept(self, signal: Signal) -> int:
        if not self.norms:
            one = _KEPT_BY_TORCH[self.cell] * self.hidden
        else:
            one = _KEPT_BY_CELL[self.cell] * self.hidden + sum(self.channels(norm.place) for norm in self.norms)
        return signal.steps * one * len(self.directions)

    def at_once(self, signal: Signal) -> int:
        # The input's projections, before and behind their normalization, and the outputs one by one and together.
        return signal.steps * (signal.channels + (2 * GATES[self.cell] + 2) * self.hidden * len(self.directions))

    def misfit(self, signal: Signal) -> Fault | None:
        if self.hidden > 1 or not any(isinstance(norm.spec, RecurrentLayerNormSpec) for norm in self.norms):
            return None
        detail = "layer_norm would see one value, and erase it; use 2 hidden units or more"
        return Fault(self.width_pointer, detail, "one_value_per_sample")

    def channels(self, place: Place) -> int:
        """What is normalized there, in one direction."""
        return self.hidden if place == "norm_c" else GATES[self.cell] * self.hidden

    def has_shift(self, place: Place) -> bool:
        """Whether the normalization there has a shift of its own; the others have the cell's bias for one."""
        return place == "norm_c" or (place == "norm_h" and self.bias)

    def _biases(self) -> int:
        rows = GATES[self.cell] * self.hidden
        if not self.bias or any(norm.place == "norm_h" for norm in self.norms):
            return 0
        if not self.norms:
            # torch has one for each projection.
            return 2 * rows
        return rows + (self.hidden if self.cell == "gru" else 0)

    def _learned(self, norm: Inside) -> int:
        channels = self.channels(norm.place)
        if isinstance(norm.spec, SequenceBatchNormSpec):
            return norm.spec.parameters(channels)
        return channels * (2 if self.has_shift(norm.place) else 1)
