"""Batch normalization of sequences over all their frames, whatever their lengths.

Shapes: T steps, N sequences, C channels; a frame is one step of one sequence.
"""

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._leaf import as_leaf
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm


class SequenceBatchNorm(MaskedBatchNorm):
    """Standardizes each channel with the mean and variance of all valid frames of the batch.

    Training: `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (C,) over all steps of
    all sequences; padding does not count. Running statistics and evaluation as `torch.nn.BatchNorm1d`. It is meant for
    what goes from below into a recurrent layer, `W_x x`, and not for the recurrence itself. Input and output:
    (T, N, C), (N, T, C) if `batch_first`, (T, C), or packed sequences, which need no mask: their `data` are the valid
    frames. In output for padded input with `lengths`, padding is 0.

    Difference from `MaskedBatchNorm`: channels are the last axis, and sequences may be packed. Keys are those of
    `torch.nn.BatchNorm1d`. What it says of batches with no valid frame or one holds here too.

    arXiv 1510.01378 (sequence-wise normalization); arXiv 1512.02595, section 3.2.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        batch_first: padded input is (N, T, C).

    Raises:
        ValueError: from the forward pass, for lengths that do not fit, and in training for a single frame.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.batch_first = batch_first

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, lengths: Tensor | None = None
    ) -> Tensor | PackedSequence:
        """Normalize frames; `lengths` (N,) of a padded `input` are not read back from the device.

        Without, a padded `input` has the lengths or the mask (N, T) that `bncore.norm.valid_positions` handed over.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, lengths)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("packed sequences know their lengths: give none")
            data = BatchNorm.forward(self, input.data)
            return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if input.dim() not in (2, 3):
            raise ValueError(f"expected 2 or 3 axes, got input size {tuple(input.shape)}")
        mask = self.mask_of(input, None, lengths)
        mask = None if mask is None else mask.flatten()
        return super().forward(input.reshape(-1, input.shape[-1]), mask).reshape(input.shape)

    def mask_of(self, x: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
        """For `x` (T, N, C), or (N, T, C) if `batch_first`, of that shape without channels."""
        # Masks are (N, T) in either order of the axes.
        turned = x.dim() == 3 and not self.batch_first
        frames = (x.shape[1], x.shape[0]) if turned else x.shape[:-1]
        valid = self._valid(x, -1, mask, lengths).of(x, frames)
        return valid.t() if valid is not None and turned else valid
