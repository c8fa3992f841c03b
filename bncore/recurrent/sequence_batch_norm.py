"""Batch normalization of sequences over all their frames, whatever their lengths.

Shapes: T steps, N sequences, C channels; a frame is one step of one sequence.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.recurrent._masked import check_lengths, valid_steps


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
        """Normalize frames; `lengths` (N,) of a padded `input` are not read back from the device."""
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("packed sequences know their lengths: give none")
            data = super().forward(input.data)
            return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if input.dim() not in (2, 3):
            raise ValueError(f"expected 2 or 3 axes, got input size {tuple(input.shape)}")
        frames = input.reshape(-1, input.shape[-1])
        if lengths is None:
            return super().forward(frames).reshape(input.shape)
        return super().forward(frames, self._valid(input, lengths)).reshape(input.shape)

    def _valid(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Of each frame, in the order of the memory."""
        time = 1 if self.batch_first else 0
        if padded.dim() != 3:
            raise ValueError(f"lengths do not fit input size {tuple(padded.shape)}, which has no axis of sequences")
        check_lengths(lengths, padded.shape[1 - time])
        valid = valid_steps(lengths.to(padded.device), padded.shape[time])
        return (valid.t() if self.batch_first else valid).reshape(-1)
