"""Which values of a tensor are those of a channel: of all examples and positions, without padding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.diagnostics._axes import channel_axis
from bncore.diagnostics._probe import Probe
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.model.population import seen_values


class ValidSteps:
    """Which steps (N, T) of padded sequences count; asked once where they lie, as that is read from the device."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._at: dict[int, tuple[Tensor, ...]] = {}

    def of(self, sequences: Tensor) -> Tensor | None:
        """(M, C) of (N, T, C) without padding; steps that were put in front count; None where it is of other size."""
        more = sequences.shape[1] - self.mask.shape[1]
        if more < 0 or len(sequences) != len(self.mask):
            return None
        if more not in self._at:
            self._at[more] = nn.functional.pad(self.mask, (more, 0), value=True).nonzero(as_tuple=True)
        return sequences[self._at[more]]


def values_of(tensor: Any, axis: int, valid: ValidSteps | None) -> Tensor:
    """(M, C): every channel of an output, examples and positions together, without padding.

    `axis` is that of channels.
    """
    if isinstance(tensor, PackedSequence):
        tensor = tensor.data
    if tensor.is_nested:
        # Of torch's transformer in evaluation mode: sequences without their padding.
        tensor = torch.cat(tensor.unbind())
    if tensor.dim() == 0:
        return torch.empty(0, 1, dtype=tensor.dtype, device=tensor.device)
    moved: Tensor = tensor.movedim(min(axis, tensor.dim() - 1), -1)
    known = valid.of(moved) if valid is not None and moved.dim() == 3 else None
    return known if known is not None else moved.reshape(-1, moved.shape[-1])


def normalized_values(
    norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], valid: ValidSteps | None
) -> Tensor:
    """(M, C): of the arguments of a normalization, or of what came out in the place of the first, as `values_of`.

    One that is told of padding itself, by mask, lengths or packing, is believed.
    """
    given = next(iter((*args, *kwargs.values())))
    if isinstance(given, PackedSequence) or isinstance(norm, MaskedBatchNorm) or hasattr(norm, "batch_first"):
        values = seen_values(norm, args, kwargs)
        if values.dim() == 2:
            return values
    return values_of(given, channel_axis(norm, given), valid)


def valid_steps(probe: Probe) -> ValidSteps | None:
    """(N, T), True where a step is no padding; None without lengths. Raises ValueError for inputs of another shape."""
    if probe.lengths is None:
        return None
    if probe.inputs.dim() < 2 or len(probe.inputs) != len(probe.lengths):
        raise ValueError(
            f"lengths are of {len(probe.lengths)} sequences, and inputs (N, T, ...) are {tuple(probe.inputs.shape)}; "
            "give sequences first, and say by `forward` how the model takes them"
        )
    steps = torch.arange(probe.inputs.shape[1], device=probe.lengths.device)
    return ValidSteps((steps < probe.lengths.unsqueeze(1)).to(probe.inputs.device))
