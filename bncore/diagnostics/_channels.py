"""Which values of a tensor are those of a channel: of all examples and positions, without padding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.diagnostics._probe import Probe


def values_of(tensor: Any, axis: int, valid: Tensor | None) -> Tensor:
    """(M, C): every channel of an output, examples and positions together, without padding.

    `valid` (N, T) is True where a step counts; steps that were put in front count as well.
    """
    if isinstance(tensor, PackedSequence):
        tensor = tensor.data
    if tensor.dim() == 0:
        return torch.empty(0, 1, dtype=tensor.dtype, device=tensor.device)
    if valid is not None and tensor.dim() == 3 and len(tensor) == len(valid):
        more = tensor.shape[1] - valid.shape[1]
        if more >= 0:
            found: Tensor = tensor[nn.functional.pad(valid, (more, 0), value=True)]
            return found
    axis = 1 if tensor.dim() > 3 else axis
    moved: Tensor = tensor.movedim(min(axis, tensor.dim() - 1), -1)
    return moved.reshape(-1, moved.shape[-1])


def valid_steps(probe: Probe) -> Tensor | None:
    """(N, T), True where a step is no padding; None without lengths."""
    if probe.lengths is None:
        return None
    steps = torch.arange(probe.inputs.shape[1], device=probe.lengths.device)
    return (steps < probe.lengths.unsqueeze(1)).to(probe.inputs.device)
