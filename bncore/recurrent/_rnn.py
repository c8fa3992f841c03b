"""The equation of a simple recurrent network with a normalization layer in three places, whatever it is."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._leaf import as_leaf
from bncore.recurrent._cell import Normalize, RecurrentCell, RecurrentInit, State
from bncore.recurrent._stack import RecurrentStack

Nonlinearity = Literal["tanh", "relu"]


class RNNCell(RecurrentCell):
    """One step of a simple recurrent network; a third norm, `norm_h`, is for the sum in front of the nonlinearity."""

    gates = 1
    candidate = 0
    num_states = 1
    norm_h: nn.Module

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        nonlinearity: Nonlinearity,
        recurrent_init: RecurrentInit,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, recurrent_init, device, dtype)
        self.nonlinearity = nonlinearity

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

    def _norms(self) -> tuple[nn.Module, ...]:
        return self.norm_ih, self.norm_hh, self.norm_h

    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        del state  # reaches the next one by `hidden` alone
        summed = others[0]((projected + hidden).unsqueeze(0)).squeeze(0)
        return (summed.tanh() if self.nonlinearity == "tanh" else summed.relu(),)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity}"


class RNN(RecurrentStack):
    """Layers of `RNNCell`."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        step: int | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Outputs of the last layer, and h_n of every layer, as `torch.nn.RNN` returns them.

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
