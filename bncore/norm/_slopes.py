"""How the mean and the variance of a linear layer's output move with its weights, from its input alone.

Output channel j is `<w_j, patch> + b_j`, so over all examples and positions `d mean_j / d w_j = mean patch` and
`d var_j / d w_j = 2 cov(output_j, patch)`. Neither needs a graph or a backward pass through the network; the second is
what the weight's gradient costs. Shapes: C output channels in G groups, F weights an output channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from bncore.norm._autocast import without_autocast

Linear = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_WEIGHT_GRADIENTS = {nn.Conv1d: conv1d_weight, nn.Conv2d: conv2d_weight, nn.Conv3d: conv3d_weight}


def groups_of(layer: Linear) -> int:
    """Output channels of one group see the same patches."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def mean_slope(layer: Linear, source: Tensor, centred: Tensor) -> Tensor:
    """The mean patch of each group (G, F) over the batch `source` that gave the output which `centred` is, centred."""
    mean = source.to(centred.dtype).mean(0, keepdim=True)
    if isinstance(layer, nn.Linear):
        return mean
    ones = torch.ones_like(centred[:1, : layer.groups])
    slope = _into_weight(layer, mean, ones, (layer.groups, *layer.weight.shape[1:]))
    return slope.flatten(1) / ones[0, 0].numel()


def variance_slope(layer: Linear, source: Tensor, centred: Tensor) -> Tensor:
    """Twice the covariance (C, F) of each output channel with its patches."""
    source = source.to(centred.dtype)
    values = centred.numel() / centred.shape[1]
    with without_autocast(centred):
        if isinstance(layer, nn.Linear):
            covariance = centred.T @ (source - source.mean(0))
        else:
            covariance = _into_weight(layer, source, centred, tuple(layer.weight.shape)).flatten(1)
    return covariance * (2.0 / values)


def _into_weight(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, source: Tensor, upstream: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """The sum over examples and positions of `upstream` times patch, as weights of this shape."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    source = F.pad(source, layer._reversed_padding_repeated_twice, mode=mode)
    gradient = next(function for kind, function in _WEIGHT_GRADIENTS.items() if isinstance(layer, kind))
    weight: Tensor = gradient(
        source, shape, upstream, stride=layer.stride, padding=0, dilation=layer.dilation, groups=layer.groups
    )
    return weight
