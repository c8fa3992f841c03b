"""Input of a recurrent layer as it may come, and as the layers here want it: time first, padded, with a mask.

Shapes: T steps, N sequences, I inputs. What padding holds does not matter to anything computed from it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bncore.recurrent._masked import check_lengths, valid_steps, without_padding


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences (T, N, I), and how to give back output for it in the form in which it came."""

    x: Tensor
    lengths: Tensor | None
    """(N,), on the device of `x`; None where all have T steps."""
    valid: Tensor | None
    """(T, N), False at padding; None where there is none."""
    packed: PackedSequence | None
    batch_first: bool
    batched: bool

    @classmethod
    def of(cls, given: Tensor | PackedSequence, lengths: Tensor | None, batch_first: bool) -> "Sequences":
        """From (T, N, I), (N, T, I), (T, I) or packed sequences, which stay in their sorted order."""
        if isinstance(given, PackedSequence):
            if lengths is not None:
                raise ValueError("packed sequences know their lengths: give none")
            return cls._of_packed(given)
        if given.dim() not in (2, 3):
            raise ValueError(f"expected 2 or 3 axes, got input size {tuple(given.shape)}")
        batched = given.dim() == 3
        x = given.unsqueeze(1) if not batched else given.transpose(0, 1) if batch_first else given
        if x.shape[0] == 0:
            raise ValueError("expected sequences of at least one step")
        if lengths is None:
            return cls(x, None, None, None, batch_first, batched)
        check_lengths(lengths, x.shape[1])
        lengths = lengths.to(x.device).clamp_max(x.shape[0])
        valid = valid_steps(lengths, x.shape[0])
        return cls(without_padding(x, valid), lengths, valid, None, batch_first, batched)

    @classmethod
    def _of_packed(cls, packed: PackedSequence) -> "Sequences":
        x, on_cpu = pad_packed_sequence(PackedSequence(packed.data, packed.batch_sizes))
        if packed.batch_sizes[0] == packed.batch_sizes[-1]:
            return cls(x, None, None, packed, False, True)
        lengths = on_cpu.to(x.device)
        return cls(x, lengths, valid_steps(lengths, x.shape[0]), packed, False, True)

    def restored(self, y: Tensor) -> Tensor | PackedSequence:
        """Output (T, N, H) in the form of the input; padding holds zeros."""
        if self.packed is not None:
            sizes = self.packed.batch_sizes
            on_cpu = (sizes.unsqueeze(1) > torch.arange(y.shape[1], device=sizes.device)).sum(0)
            data = pack_padded_sequence(y, on_cpu).data
            return PackedSequence(data, sizes, self.packed.sorted_indices, self.packed.unsorted_indices)
        if not self.batched:
            return y.squeeze(1)
        return y.transpose(0, 1) if self.batch_first else y

    def arranged(self, state: Tensor) -> Tensor:
        """A state (layers, N, H), or (layers, H), of the caller in the order of the sequences here."""
        if not self.batched:
            state = state.unsqueeze(1)
        if self.packed is None or self.packed.sorted_indices is None:
            return state
        return state.index_select(1, self.packed.sorted_indices)

    def returned(self, state: Tensor) -> Tensor:
        """The inverse of `arranged`."""
        if not self.batched:
            return state.squeeze(1)
        if self.packed is None or self.packed.unsorted_indices is None:
            return state
        return state.index_select(1, self.packed.unsorted_indices)

    def reversed(self, x: Tensor) -> Tensor:
        """`x` (T, N, ...) with each sequence back to front within its own length; its own inverse."""
        if self.lengths is None:
            return x.flip(0)
        step = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        source = torch.where(step < self.lengths, self.lengths - 1 - step, step)
        return x.gather(0, source.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
