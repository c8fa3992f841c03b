"""The GRU equations with a normalization layer on both projections, whatever it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncore.recurrent._cell import Normalize, RecurrentInit, State
from bncore.recurrent._one_state import OneStateCell, OneStateStack


class GRUCell(OneStateCell):
    """One step of a GRU: gates r, z, n in torch's order; `bias_hn` is the bias that the reset gate scales."""

    gates = 3
    candidate = 2
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

    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        assert not others
        (r, z, n), (r_hidden, z_hidden, n_hidden) = projected.chunk(3, -1), hidden.chunk(3, -1)
        if self.bias_hn is not None:
            n_hidden = n_hidden + self.bias_hn
        candidate = (n + (r + r_hidden).sigmoid() * n_hidden).tanh()
        return (candidate + (z + z_hidden).sigmoid() * (state[0] - candidate),)


class GRU(OneStateStack):
    """Layers of `GRUCell`."""
