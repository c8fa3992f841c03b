"""A simple recurrent network with layer normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch
from torch import nn

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._gate_layer_norm import GateLayerNorm
from bncore.recurrent._rnn import RNN, Nonlinearity, RNNCell


class LayerNormRNNCell(RNNCell):
    """One step of a simple recurrent network whose summed inputs are layer-normalized.

    `h' = tanh(LN(W_hh h + W_ih x))` with one LN over the H values of the sum, whose shift is the bias. Input (N, I),
    state (N, H).

    Difference from `torch.nn.RNNCell`: `valid` of the forward pass (`step` changes nothing here), and the norm
    `norm_h`, whose `bias` is the only one; `norm_ih` and `norm_hh` are the identity.

    arXiv 1607.06450, eq. 4.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn the shift of the normalization, which is 0 at first.
        nonlinearity: `tanh` or `relu`.
        eps: added to the variance.
        recurrent_init: matrices are orthogonal at first; `identity` makes `weight_hh` the identity.

    Raises:
        ValueError: for input or a state that does not fit.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
        eps: float = 1e-5,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, False, nonlinearity, recurrent_init, device, dtype)
        self.norm_ih, self.norm_hh = nn.Identity(), nn.Identity()
        self.norm_h = GateLayerNorm((hidden_size,), eps, bias, device, dtype)
        self.reset_parameters()


class LayerNormRNN(RNN):
    """A simple recurrent network over whole sequences, layer-normalized in its recurrence: `LayerNormRNNCell`s.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I), or packed; padded input may come with `lengths` (N,). Output in
    the same form, and the last states, as `torch.nn.RNN` gives them. Steps of a sequence beyond its length change no
    state, and their output is 0.

    Difference from `torch.nn.RNN`: the normalization, `lengths`, parameters under `cells.0` and so on.

    arXiv 1607.06450, eq. 4.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the shifts.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        nonlinearity: `tanh` or `relu`.
        eps: added to the variance.
        recurrent_init: `orthogonal` or `identity`.

    Raises:
        ValueError: as `LayerNormRNNCell`, and for parts of sequences (`step`, which changes nothing else here) if
            bidirectional.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        nonlinearity: Nonlinearity = "tanh",
        eps: float = 1e-5,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        make_cell = partial(
            LayerNormRNNCell,
            hidden_size=hidden_size,
            bias=bias,
            nonlinearity=nonlinearity,
            eps=eps,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)
