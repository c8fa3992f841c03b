"""The LSTM equations with a normalization layer in three places, whatever it is."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._leaf import as_leaf
from bncore.recurrent._cell import Normalize, RecurrentCell, State
from bncore.recurrent._stack import RecurrentStack


class LSTMCell(RecurrentCell):
    """One step of an LSTM: gates i, f, g, o in torch's order, and a third norm, `norm_c`, on the way from c to h."""

    gates = 4
    candidate = 2
    num_states = 2
    forget_bias = 0.0
    norm_c: nn.Module

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.bias is not None:
            nn.init.constant_(self._block(self.bias, 1), self.forget_bias)

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        step: int | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The state (h, c), each (N, H), after `input` (N, I), which is number `step` of its sequence.

        Without a state that is 0; with one, `step` has to be said where statistics depend on it.

        `valid` (N,) is False for sequences that are over; they keep their state.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, hx, step, valid)
        h, c = self.step_once(input, hx, step, valid)
        return h, c

    def _norms(self) -> tuple[nn.Module, ...]:
        return self.norm_ih, self.norm_hh, self.norm_c

    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        i, f, g, o = (projected + hidden).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        normalized = others[0](c.unsqueeze(0)).squeeze(0)
        return o.sigmoid() * normalized.tanh(), c


class LSTM(RecurrentStack):
    """Layers of `LSTMCell`."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
        step: int | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Outputs of the last layer, and (h_n, c_n) of every layer, as `torch.nn.LSTM` returns them.

        Args:
            input: (T, N, I), (N, T, I) if `batch_first`, (T, I), or packed.
            hx: (h_0, c_0), each (layers x directions, N, H); zeros otherwise.
            lengths: of a padded `input`, (N,), not read back from the device; what padding holds does not matter.
            step: how many steps of the sequences came before `input`: `y, state = layer(x[:6])`, then
                `layer(x[6:], state, step=6)`. Lengths are those of this part.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, hx, lengths, step)
        output, (h, c) = self.run(input, hx, lengths, step)
        return output, (h, c)
