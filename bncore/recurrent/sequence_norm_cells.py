"""Recurrent networks whose input projections are batch-normalized over all frames, and whose recurrences are not.

Shapes: T steps, N sequences, I inputs, H hidden units. They come as whole sequences only: the statistics of a frame are
those of all steps, so that there is no cell to call by itself.
"""

from functools import partial

import torch

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._gru import GRU
from bncore.recurrent._lstm import LSTM
from bncore.recurrent._placed import PlacedGRUCell, PlacedLSTMCell, PlacedRNNCell
from bncore.recurrent._rnn import RNN, Nonlinearity
from bncore.recurrent.sequence_batch_norm import SequenceBatchNorm


class SequenceBatchNormLSTM(LSTM):
    """An LSTM with `(i, f, g, o) = W_hh h + BN(W_ih x; gamma_x) + bias`, the statistics over all valid frames.

    Input, output and `lengths` as of `BatchNormLSTM`, but one sequence is enough for a batch. Steps of a sequence
    beyond its length count in no statistics, change no state, and their output is 0. The normalization has no shift of
    its own: `bias` is it. Statistics are those of the frames that come together: a sequence in parts is normalized part
    by part in training.

    Difference from `torch.nn.LSTM`: the normalization `norm_ih`, `lengths`, one bias, parameters under `cells.0`.

    arXiv 1510.01378 (sequence-wise normalization, input to hidden only).

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases; that of the forget gate is 1 at first, the others 0.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn gamma_x (4 H,), which is 1 at first.
        recurrent_init: `orthogonal`, or `identity` for the candidate's block of `weight_hh`.

    Raises:
        ValueError: for input, lengths or a state that does not fit; in training, for a single frame.
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
        momentum: float | None = 0.1,
        affine: bool = True,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        norms = {
            "norm_ih": partial(
                SequenceBatchNorm, 4 * hidden_size, eps, momentum, affine, device=device, dtype=dtype, bias=False
            )
        }
        make_cell = partial(
            PlacedLSTMCell,
            norms=norms,
            hidden_size=hidden_size,
            bias=bias,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)


class SequenceBatchNormGRU(GRU):
    """A GRU with `(r, z, n) = BN(W_ih x; gamma_x) + bias`, the statistics over all valid frames.

    The rest is as in `SequenceBatchNormLSTM`; the hidden projection keeps its bias `bias_hn`, which the reset gate
    scales.

    After arXiv 1510.01378 (sequence-wise normalization, input to hidden only).

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases, which are 0 at first.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn gamma_x (3 H,), which is 1 at first.
        recurrent_init: `orthogonal`, or `identity` for the candidate's block of `weight_hh`.

    Raises:
        ValueError: for input, lengths or a state that does not fit; in training, for a single frame.
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
        momentum: float | None = 0.1,
        affine: bool = True,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        norms = {
            "norm_ih": partial(
                SequenceBatchNorm, 3 * hidden_size, eps, momentum, affine, device=device, dtype=dtype, bias=False
            )
        }
        make_cell = partial(
            PlacedGRUCell,
            norms=norms,
            hidden_size=hidden_size,
            bias=bias,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)


class SequenceBatchNormRNN(RNN):
    """A simple recurrent network with `h' = tanh(W_hh h + BN(W_ih x; gamma_x) + bias)`, statistics over all frames.

    The rest is as in `SequenceBatchNormLSTM`.

    arXiv 1510.01378 (sequence-wise normalization, input to hidden only).

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases, which are 0 at first.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        nonlinearity: `tanh` or `relu`.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn gamma_x (H,), which is 1 at first.
        recurrent_init: `orthogonal`, or `identity` for `weight_hh`.

    Raises:
        ValueError: for input, lengths or a state that does not fit; in training, for a single frame.
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
        momentum: float | None = 0.1,
        affine: bool = True,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        norms = {
            "norm_ih": partial(
                SequenceBatchNorm, hidden_size, eps, momentum, affine, device=device, dtype=dtype, bias=False
            )
        }
        make_cell = partial(
            PlacedRNNCell,
            norms=norms,
            hidden_size=hidden_size,
            bias=bias,
            nonlinearity=nonlinearity,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)
