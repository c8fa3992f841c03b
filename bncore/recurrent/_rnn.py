"""The equation of a simple recurrent network with a normalization layer in three places, whatever it is."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bncore.recurrent._cell import Normalize, RecurrentInit, State
from bncore.recurrent._one_state import OneStateCell, OneStateStack

Nonlinearity = Literal["tanh", "relu"]


class RNNCell(OneStateCell):
    """One step of a simple recurrent network; a third norm, `norm_h`, is for the sum in front of the nonlinearity."""

    gates = 1
    candidate = 0
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

    def _norms(self) -> tuple[nn.Module, ...]:
        return self.norm_ih, self.norm_hh, self.norm_h

    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        del state  # reaches the next one by `hidden` alone
        summed = others[0]((projected + hidden).unsqueeze(0)).squeeze(0)
        return (summed.tanh() if self.nonlinearity == "tanh" else summed.relu(),)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity}"


class RNN(OneStateStack):
    """Layers of `RNNCell`."""
