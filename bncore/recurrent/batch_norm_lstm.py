"""An LSTM with batch normalization in its recurrence, and one step of it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from functools import partial

import torch

from bncore.recurrent._cell import RecurrentInit
from bncore.recurrent._lstm import LSTM, LSTMCell
from bncore.recurrent.step_batch_norm import StepBatchNorm


class BatchNormLSTMCell(LSTMCell):
    """One step of an LSTM whose two projections and whose cell on its way out are batch-normalized.

    With gates in the order i, f, g, o and statistics of the step's number,
    `(i, f, g, o) = BN(W_hh h; gamma_h) + BN(W_ih x; gamma_x) + bias`, `c' = sigmoid(f) c + sigmoid(i) tanh(g)`,
    `h' = sigmoid(o) tanh(BN(c'; gamma_c, beta_c))`. The two projections have no shift of their own: `bias` is it. The
    cell itself is not normalized, so that gradients flow along it as in any LSTM. Input (N, I), state (N, H) each.

    Difference from `torch.nn.LSTMCell`: `step` and `valid` of the forward pass, one bias, and `StepBatchNorm` in
    `norm_ih`, `norm_hh` and `norm_c` (see there for steps beyond `max_length`, and for sequences that are over).

    A state that is the same for all sequences, as zeros are, has no variance: its normalized projection is exactly 0,
    and a gradient that flows into it grows by `gamma / sqrt(eps)`. The same holds for input that is constant over the
    batch. Nothing is drawn at random here; the authors, where it hurt, put noise into the initial state: pass `hx` and
    `step=0`. Evaluate with initial states such as training had, since the statistics of step 0 are theirs.

    arXiv 1603.09025, eqs. 6 to 8; gamma is section 4 of it. Matrices are orthogonal at first, as in its language
    models, and the bias of the forget gate 1, as in its authors' code.

    Args:
        input_size: I.
        hidden_size: H.
        bias: learn `bias` (4 H,).
        max_length: number of steps with statistics of their own.
        gamma: initial scale of all three normalizations.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        recurrent_init: `identity` makes the candidate's block of `weight_hh` the identity, as for the paper's
            pixel-by-pixel digits; the other blocks stay orthogonal.

    Raises:
        ValueError: for input or a state that does not fit; from the forward pass, in training, for one sequence.
    """

    forget_bias = 1.0

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
        rows = 4 * hidden_size
        norm = partial(
            StepBatchNorm,
            max_length=max_length,
            eps=eps,
            momentum=momentum,
            gamma=gamma,
            nan_guard=nan_guard,
            device=device,
            dtype=dtype,
        )
        self.norm_ih, self.norm_hh = norm(rows, bias=False), norm(rows, bias=False)
        self.norm_c = norm(hidden_size)
        self.reset_parameters()


class BatchNormLSTM(LSTM):
    """An LSTM over whole sequences with batch normalization in its recurrence: layers of `BatchNormLSTMCell`.

    Input (T, N, I), (N, T, I) if `batch_first`, (T, I) in evaluation, or packed; padded input may come with `lengths`
    (N,). Output in the same form, and the last states, as `torch.nn.LSTM` gives them. Steps of a sequence beyond its
    length count in no statistics, change no state, and their output is 0. Each direction of each layer has statistics
    of its own; those of the backward direction count from the end of each sequence.

    The state that comes back is torch's, and does not say at which step it stands, on which the statistics depend. A
    sequence that comes in parts therefore has the same outputs as in one piece if each part says how many steps came
    before it: `y, state = layer(x[:6])`, then `layer(x[6:], state, step=6)`. A state without
    `step` is refused: where it is the one that sequences begin with, say `step=0`.

    Difference from `torch.nn.LSTM`: the normalization, `lengths`, parameters under `cells.0` and so on, no `proj_size`.
    `torch.optim.swa_utils.update_bn` passes the layer over; `recalibrate` does not.

    arXiv 1603.09025, eqs. 6 to 8.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: how many, each on top of the outputs of the one before.
        bias: learn the biases.
        batch_first: input and output are (N, T, ...); states are not.
        dropout: probability with which an output of a layer that has one above it is dropped in training, as in torch.
        bidirectional: also walk from the end, and output both, (..., 2 H).
        max_length: see `BatchNormLSTMCell`, as for all that follow.
        gamma: initial scale.
        eps: added to the variance.
        momentum: weight of the newest batch.
        nan_guard: keep what is not finite out of the running statistics.
        recurrent_init: `orthogonal` or `identity`.

    Raises:
        ValueError: as `BatchNormLSTMCell`, for a state without its step, and for parts of sequences if bidirectional.
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
            BatchNormLSTMCell,
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
