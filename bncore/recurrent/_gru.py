"""The GRU equations with a normalization layer on both projections, whatever it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._leaf import as_leaf
from bncore.recurrent._cell import Normalize, RecurrentCell, RecurrentInit, State
from bncore.recurrent._stack import RecurrentStack


class GRUCell(RecurrentCell):
    """One step of a GRU: gates r, z, n in torch's order; `bias_hn` is the bias that the reset gate scales."""

    gates = 3
    candidate = 2
    num_states = 1
    bias_hn: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        recurrent_init: RecurrentInit,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, recurrent_init, device, dtype)
        shift = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias_hn", shift)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.bias_hn is not None:
            nn.init.zeros_(self.bias_hn)

    def forward(
        self, input: Tensor, hx: Tensor | None = None, step: int | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """The state h (N, H) after `input` (N, I), which is number `step` of its sequence.

        Without a state that is 0; with one, `step` has to be said where statistics depend on it.

        `valid` (N,) is False for sequences that are over; they keep their state.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, hx, step, valid)
        return self.step_once(input, None if hx is None else (hx,), step, valid)[0]

    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        assert not others
        (r, z, n), (r_hidden, z_hidden, n_hidden) = projected.chunk(3, -1), hidden.chunk(3, -1)
        if self.bias_hn is not None:
            n_hidden = n_hidden + self.bias_hn
        candidate = (n + (r + r_hidden).sigmoid() * n_hidden).tanh()
        return (candidate + (z + z_hidden).sigmoid() * (state[0] - candidate),)


class GRU(RecurrentStack):
    """Layers of `GRUCell`."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        step: int | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Outputs of the last layer, and h_n of every layer, as `torch.nn.GRU` returns them.

        Args:
            input: (T, N, I), (N, T, I) if `batch_first`, (T, I), or packed.
            hx: h_0 (layers x directions, N, H); zeros otherwise.
            lengths: of a padded `input`, (N,), not read back from the device; what padding holds does not matter.
            step: how many steps of the sequences came before `input`: `y, state = layer(x[:6])`, then
                `layer(x[6:], state, step=6)`. Lengths are those of this part.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, hx, lengths, step)
        output, (h,) = self.run(input, None if hx is None else (hx,), lengths, step)
        return output, h
