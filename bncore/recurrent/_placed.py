"""Cells whose normalizations stand where they are put, and layers of them.

Invariant: what is put nowhere is `torch.nn.Identity`, so that a cell computes its equations whatever is in which place.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import nn

from bncore.recurrent._gru import GRU, GRUCell
from bncore.recurrent._lstm import LSTM, LSTMCell
from bncore.recurrent._rnn import RNN, RNNCell
from bncore.recurrent._stack import RecurrentStack

Norms = Mapping[str, Callable[[], nn.Module]]
"""What makes the normalization of each place that has one: `norm_ih`, `norm_hh`, `norm_c` (lstm), `norm_h` (rnn)."""


def placed_layer(
    cell: Literal["rnn", "lstm", "gru"],
    norms: Norms,
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    batch_first: bool = False,
    dropout: float = 0.0,
    bidirectional: bool = False,
    **options: Any,
) -> RecurrentStack:
    """Layers of cells with these normalizations; `options` are a cell's (`bias`, `recurrent_init`, ...).

    A normalization of an rnn's sum, `norm_h`, brings the shift along: such a cell has no bias.
    """
    if "norm_h" in norms:
        options["bias"] = False
    options = {"bias": True, "recurrent_init": "orthogonal", "device": None, "dtype": None, **options}
    stack: type[RecurrentStack]
    made: type[nn.Module]
    stack, made = {"rnn": (RNN, PlacedRNNCell), "lstm": (LSTM, PlacedLSTMCell), "gru": (GRU, PlacedGRUCell)}[cell]
    make_cell: Any = partial(made, norms=norms, hidden_size=hidden_size, **options)
    return stack(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)


class PlacedLSTMCell(LSTMCell):
    forget_bias = 1.0

    def __init__(self, input_size: int, *, norms: Norms, **options: Any) -> None:
        super().__init__(input_size, **options)
        self.norm_ih, self.norm_hh, self.norm_c = _made(norms, "norm_ih", "norm_hh", "norm_c")
        self.reset_parameters()


class PlacedGRUCell(GRUCell):
    def __init__(self, input_size: int, *, norms: Norms, **options: Any) -> None:
        super().__init__(input_size, **options)
        self.norm_ih, self.norm_hh = _made(norms, "norm_ih", "norm_hh")
        self.reset_parameters()


class PlacedRNNCell(RNNCell):
    def __init__(self, input_size: int, *, norms: Norms, **options: Any) -> None:
        super().__init__(input_size, **options)
        self.norm_ih, self.norm_hh, self.norm_h = _made(norms, "norm_ih", "norm_hh", "norm_h")
        self.reset_parameters()


def _made(norms: Norms, *places: str) -> list[nn.Module]:
    return [norms.get(place, nn.Identity)() for place in places]
