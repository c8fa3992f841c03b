"""An LSTM with layer normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._gate_layer_norm import GateLayerNorm
from bncore.recurrent._lstm import LSTM, LSTMCell


class LayerNormLSTMCell(LSTMCell):
    """One step of an LSTM whose two projections and whose cell on its way out are layer-normalized.

    With gates in the order i, f, g, o, `(i, f, g, o) = LN(W_hh h; alpha_1) + LN(W_ih x; alpha_2) + bias`,
    `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(LN(c'; alpha_3, beta_3))`. Each LN is over all 4 H
    (or H) values of a sequence together. The shifts beta_1 and beta_2 of the paper add up with its bias and are left
    out: the functions are the same. Input (N, I), state (N, H) each.

    Difference from `torch.nn.LSTMCell`: `valid` of the forward pass (`step` changes nothing here), one bias, and the
    norms `norm_ih`, `norm_hh` and `norm_c`; with the identity in their place it is torch's.

    arXiv 1607.06450, supplementary material: the equations of the LSTM.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn `bias` (4 H,), which is 0 at first.
        eps: added to the variance.
        recurrent_init: matrices are orthogonal at first; `identity` makes the candidate's block of `weight_hh` the
            identity.

    Raises:
        ValueError: for input or a state that does not fit.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        eps: float = 1e-5,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, recurrent_init, device, dtype)
        self.norm_ih, self.norm_hh = (GateLayerNorm((4 * hidden_size,), eps, False, device, dtype) for _ in range(2))
        self.norm_c = GateLayerNorm((hidden_size,), eps, True, device, dtype)
        self.reset_parameters()


class LayerNormLSTM(LSTM):
    """An LSTM over whole sequences with layer normalization in its recurrence: layers of `LayerNormLSTMCell`.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I), or packed; padded input may come with `lengths` (N,). Output in
    the same form, and the last states, as `torch.nn.LSTM` gives them. Steps of a sequence beyond its length change no
    state, and their output is 0.

    Difference from `torch.nn.LSTM`: the normalization, `lengths`, parameters under `cells.0` and so on, no `proj_size`.

    arXiv 1607.06450, supplementary material: the equations of the LSTM.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        eps: added to the variance.
        recurrent_init: `orthogonal` or `identity`.

    Raises:
        ValueError: as `LayerNormLSTMCell`, and for parts of sequences (`step`, which changes nothing else here) if
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
        eps: float = 1e-5,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        make_cell = partial(
            LayerNormLSTMCell,
            hidden_size=hidden_size,
            bias=bias,
            eps=eps,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)
