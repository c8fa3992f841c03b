"""What cells and layers share whose state is one tensor, as `torch.nn.RNN` and `GRU` have it.

Shapes: T steps, N sequences, I inputs, H hidden units.
"""

from torch import Tensor
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._leaf import as_leaf
from bncore.recurrent._cell import RecurrentCell
from bncore.recurrent._stack import RecurrentStack


class OneStateCell(RecurrentCell):
    """A cell whose state is its output."""

    num_states = 1

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


class OneStateStack(RecurrentStack):
    """Layers of such cells."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        step: int | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Outputs of the last layer, and h_n of every layer, as `torch.nn.RNN` and `GRU` return them.

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
