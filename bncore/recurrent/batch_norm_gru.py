"""A GRU with batch normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._gru import GRU, GRUCell
from bncore.recurrent.step_batch_norm import StepBatchNorm


class BatchNormGRUCell(GRUCell):
    """One step of a GRU whose two projections are batch-normalized.

    With gates in the order r, z, n and statistics of the step's number, `(r, z, n) = BN(W_ih x; gamma_x) + bias`,
    `(r_h, z_h, n_h) = BN(W_hh h; gamma_h)`, `r' = sigmoid(r + r_h)`, `z' = sigmoid(z + z_h)`,
    `n' = tanh(n + r' (n_h + bias_hn))`, `h' = (1 - z') n' + z' h`. Input (N, I), state (N, H).

    The paper has the LSTM only; this is its recipe applied to torch's GRU, in which the reset gate scales the hidden
    projection and not the state: both projections are normalized on their own, before any gate, with no shift but the
    biases, and the state, which runs along the sequence, is not normalized.

    Difference from `torch.nn.GRUCell`: `step` and `valid` of the forward pass, `bias_hn` as the only hidden bias (those
    of the gates would add up with `bias`), and `StepBatchNorm` in `norm_ih` and `norm_hh`. What `BatchNormLSTMCell`
    says of states without variance holds here too.

    After arXiv 1603.09025, section 3.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn `bias` (3 H,) and `bias_hn` (H,), which are 0 at first.
        max_length: number of steps with statistics of their own.
        gamma: initial scale of both normalizations.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        recurrent_init: matrices are orthogonal at first; `identity` makes the candidate's block of `weight_hh` the
            identity.

    Raises:
        ValueError: for input or a state that does not fit; from the forward pass, in training, for one sequence.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        max_length: int = 100,
        gamma: float = 0.1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        nan_guard: bool = False,
        recurrent_init: RecurrentInit = "orthogonal",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, recurrent_init, device, dtype)
        self.norm_ih, self.norm_hh = (
            StepBatchNorm(3 * hidden_size, max_length, eps, momentum, gamma, False, nan_guard, device, dtype)
            for _ in range(2)
        )
        self.reset_parameters()


class BatchNormGRU(GRU):
    """A GRU over whole sequences with batch normalization in its recurrence: layers of `BatchNormGRUCell`.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I) in evaluation, or packed; padded input may come with `lengths`
    (N,). Output in the same form, and the last states, as `torch.nn.GRU` gives them. Steps of a sequence beyond its
    length count in no statistics, change no state, and their output is 0. Each direction of each layer has statistics
    of its own; those of the backward direction count from the end of each sequence.

    The state that comes back is torch's, and does not say at which step it stands, on which the statistics depend. A
    sequence that comes in parts therefore has the same outputs as in one piece if each part says how many steps came
    before it: `y, state = layer(x[:6])`, then `layer(x[6:], state, step=6)`. A state without
    `step` is refused: where it is the one that sequences begin with, say `step=0`.

    Difference from `torch.nn.GRU`: the normalization, `lengths`, parameters under `cells.0` and so on.
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
        max_length: see `BatchNormGRUCell`, as for all that follow.
        gamma: initial scale.
        eps: added to the variance.
        momentum: weight of the newest batch.
        nan_guard: keep what is not finite out of the running statistics.
        recurrent_init: `orthogonal` or `identity`.

    Raises:
        ValueError: as `BatchNormGRUCell`, for a state without its step, and for parts of sequences if bidirectional.
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
            BatchNormGRUCell,
            hidden_size=hidden_size,
            bias=bias,
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
