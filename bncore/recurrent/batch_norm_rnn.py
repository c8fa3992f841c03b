"""A simple recurrent network with batch normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch
from torch import nn

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._rnn import RNN, Nonlinearity, RNNCell
from bncore.recurrent.step_batch_norm import StepBatchNorm


class BatchNormRNNCell(RNNCell):
    """One step of a simple recurrent network whose two projections are batch-normalized.

    With statistics of the step's number, `h' = tanh(BN(W_hh h; gamma_h) + BN(W_ih x; gamma_x) + bias)`. Input (N, I),
    state (N, H).

    The paper has the LSTM only; this is its recipe: both projections are normalized on their own, with no shift but the
    bias, before they are added.

    Difference from `torch.nn.RNNCell`: `step` and `valid` of the forward pass, one bias, and `StepBatchNorm` in
    `norm_ih` and `norm_hh`; `norm_h` is the identity. What `BatchNormLSTMCell` says of states without variance holds
    here too.

    After arXiv 1603.09025, section 3.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn `bias` (H,), which is 0 at first.
        nonlinearity: `tanh` or `relu`.
        max_length: number of steps with statistics of their own.
        gamma: initial scale of both normalizations.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        recurrent_init: matrices are orthogonal at first; `identity` makes `weight_hh` the identity (arXiv 1504.00941).

    Raises:
        ValueError: for input or a state that does not fit; from the forward pass, in training, for one sequence.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
        max_length: int = 100,
        gamma: float = 0.1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        nan_guard: bool = False,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, nonlinearity, recurrent_init, device, dtype)
        self.norm_ih, self.norm_hh = (
            StepBatchNorm(hidden_size, max_length, eps, momentum, gamma, False, nan_guard, device, dtype)
            for _ in range(2)
        )
        self.norm_h = nn.Identity()
        self.reset_parameters()


class BatchNormRNN(RNN):
    """A simple recurrent network over whole sequences, batch-normalized in its recurrence: `BatchNormRNNCell`s.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I) in evaluation, or packed; padded input may come with `lengths`
    (N,). Output in the same form, and the last states, as `torch.nn.RNN` gives them. Steps of a sequence beyond its
    length count in no statistics, change no state, and their output is 0. Each direction of each layer has statistics
    of its own; those of the backward direction count from the end of each sequence. For a sequence that comes in parts
    see `BatchNormLSTM`.

    Difference from `torch.nn.RNN`: the normalization, `lengths`, parameters under `cells.0` and so on.
    `torch.optim.swa_utils.update_bn` passes the layer over; `recalibrate` does not.

    After arXiv 1603.09025, section 3.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        nonlinearity: `tanh` or `relu`.
        max_length: see `BatchNormRNNCell`, as for all that follow.
        gamma: initial scale.
        eps: added to the variance.
        momentum: weight of the newest batch.
        nan_guard: keep what is not finite out of the running statistics.
        recurrent_init: `orthogonal` or `identity`.

    Raises:
        ValueError: as `BatchNormRNNCell`, for a state without its step, and for parts of sequences if bidirectional.
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
        max_length: int = 100,
        gamma: float = 0.1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        nan_guard: bool = False,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        make_cell = partial(
            BatchNormRNNCell,
            hidden_size=hidden_size,
            bias=bias,
            nonlinearity=nonlinearity,
            max_length=max_length,
            gamma=gamma,
            eps=eps,
            momentum=momentum,
            nan_guard=nan_guard,
            recurrent_init=recurrent_init,
            device=device,
            dtype=dtype,
        )
        super().__init__(make_cell, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional)
