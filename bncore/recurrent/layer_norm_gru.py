"""A GRU with layer normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._gate_layer_norm import GateLayerNorm
from bncore.recurrent._gru import GRU, GRUCell


class LayerNormGRUCell(GRUCell):
    """One step of a GRU whose two projections are layer-normalized.

    With gates in the order r, z, n, `(r, z) = sigmoid(LN(W_hh h; alpha_1) + LN(W_ih x; alpha_2) + bias)` with each LN
    over the 2 H values of both gates together, `n = tanh(LN(W_ih x; alpha_3) + bias + r (LN(W_hh h; alpha_4) +
    bias_hn))` over the H values of the candidate, `h' = (1 - z) n + z h`. The shifts of the paper are the biases: those
    of the gates add up to one. Its update gate has the other sign. Input (N, I), state (N, H).

    Difference from `torch.nn.GRUCell`: `valid` of the forward pass (`step` changes nothing here), `bias_hn` as the only
    hidden bias, and the norms `norm_ih` and `norm_hh`; with the identity in their place it is torch's.

    arXiv 1607.06450, supplementary material: the equations of the GRU.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn `bias` (3 H,) and `bias_hn` (H,), which are 0 at first.
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
        sizes = (2 * hidden_size, hidden_size)
        self.norm_ih, self.norm_hh = (GateLayerNorm(sizes, eps, False, device, dtype) for _ in range(2))
        self.reset_parameters()


class LayerNormGRU(GRU):
    """A GRU over whole sequences with layer normalization in its recurrence: layers of `LayerNormGRUCell`.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I), or packed; padded input may come with `lengths` (N,). Output in
    the same form, and the last states, as `torch.nn.GRU` gives them. Steps of a sequence beyond its length change no
    state, and their output is 0.

    Difference from `torch.nn.GRU`: the normalization, `lengths`, parameters under `cells.0` and so on.

    arXiv 1607.06450, supplementary material: the equations of the GRU.

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
        ValueError: as `LayerNormGRUCell`, and for parts of sequences (`step`, which changes nothing else here) if
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
            LayerNormGRUCell,
            hidden_size=hidden_size,
            bias=bias,
            eps=eps,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)
