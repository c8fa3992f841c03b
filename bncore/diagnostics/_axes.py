"""Where the channels of a tensor lie, and where they come to."""

import torch
from torch import Tensor, nn

from bncore.norm._torch import AnyConv
from bncore.norm.model.last_axis import normalizes_last_axis

_WITHOUT_EXAMPLES: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 2, nn.InstanceNorm2d: 3, nn.InstanceNorm3d: 4}
"""How many axes one example by itself has, where a normalization of torch's takes that."""


def channel_axis(norm: nn.Module, values: Tensor | None = None) -> int:
    """Of what a normalization takes."""
    if values is not None and any(isinstance(norm, cls) and values.dim() == n for cls, n in _WITHOUT_EXAMPLES.items()):
        return 0
    if values is not None and values.dim() > 3 and len(getattr(norm, "normalized_shape", ())) > 1:
        # Images as a whole.
        return 1
    return -1 if normalizes_last_axis(norm) or hasattr(norm, "batch_first") else 1


def axis_of_weights(layer: nn.Module, output: Tensor | None) -> int:
    """Of what a layer of weights puts out, of a convolution also without an axis of examples."""
    if not isinstance(layer, AnyConv):
        return -1
    return 1 if output is None else output.dim() - len(layer.kernel_size) - 1


def axis_after(before: Tensor, axis: int, after: Tensor) -> int:
    """Where the axis of channels lies in what an operation made of `before`; mostly it stays where it was.

    It moves in a view that has the same axes in another order, and rows of features that become images have it second.
    """
    if any(one.is_nested or one.layout != torch.strided for one in (before, after)):
        return axis
    if before.dim() < 3 and after.dim() > 3:
        return 1
    own, new = ([*zip(one.shape, one.stride(), strict=True)] for one in (before, after))
    is_other_order = own != new and sorted(own) == sorted(new) and after.data_ptr() == before.data_ptr()
    return new.index(own[axis]) if is_other_order and axis < len(own) and new.count(own[axis]) == 1 else axis
