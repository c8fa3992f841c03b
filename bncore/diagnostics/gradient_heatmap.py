"""What outputs are blamed for, image by image and class by class."""

import math
from collections.abc import Callable
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from bncore.diagnostics._on_host import numbers
from bncore.diagnostics._passage import Matrix, passage
from bncore.diagnostics._passes import applied, catching, is_plain
from bncore.diagnostics._probe import How, Probe, gradients, probing
from bncore.diagnostics._recorded import recorded
from bncore.norm._torch import AnyConv
from bncore.recording import Recording


def gradient_heatmap(
    model: nn.Module, inputs: Any, labels: Tensor | None = None, *, rows: int = 512, **how: Unpack[How]
) -> Recording:
    """The gradient of the loss by the logits, rows for images and columns for classes, and how alike the rows are.

    Array `gradient` (image, class): G = dL_i/dlogits of the loss L_i of each example before the mean over them, in
    "loss / logit"; for cross entropy, softmax minus one-hot. Of tagged sequences a row is a step that is no padding.
    The first `rows` are kept; scalars are of all. Array `ratio` (site,), "1": b / a for each linear and convolutional
    layer, with b = sum |sum g| and a = sum sum |g|; the inner sums are over what adds up to one weight's gradient,
    examples and positions (and layers that share it), the outer ones over the weights.

    Scalars, "1": `mode` (share of the class that is predicted most), `colcons` (sum_k |sum_i G_ik| / sum_ik |G_ik|; 1
    if all images pull a class the same way), `cosine` (mean over pairs of rows), `maxcol` (max_k sum_i |G_ik| / sum),
    and `median_ratio`. Rows of zeros have no cosine. NaN where something is divided by 0, or a logit is NaN.

    Source: arXiv 1806.02375, section 3.3, figure 4 (one bright column at initialization without batch norm) and
    table 1 (b / a of .4 to .6 without, below .02 with it). Traps: balanced labels give `colcons` a floor, so compare
    with the same labels; a network that predicts one class with near-uniform probabilities has a large `mode` and a
    small `colcons`.

    Raises:
        ValueError: there are no labels, or outputs are not (N, C), (N, T, C) or, with labels (N, ...), (N, C, ...).
    """
    with probing(model, inputs, labels, how) as probe:
        passed = passage(probe)
        plain = [matrix for matrix in passed.matrices if is_plain(matrix.owner) and matrix.holder is matrix.owner]
        users = [_users(probe.network, matrix) for matrix in plain]
        with catching((), tuple(user for of_one in users for user in of_one)) as caught:
            outputs = probe.outputs()
            classes = _class_axis(probe.labels, outputs)
            if outputs.dim() not in (2, 3) and classes == -1:
                raise ValueError(f"outputs are (N, C), or (N, T, C) for each step, and here {tuple(outputs.shape)}")
            calls = [[(user, *pair) for user in of_one for pair in caught.calls.get(user, ())] for of_one in users]
            sums = [call for of_one in calls for call in of_one]
            by_outputs, *blamed = gradients(probe.loss_of(outputs), [outputs, *(output for *_, output in sums)])
            by_outputs, outputs = (tensor.movedim(classes, -1) for tensor in (by_outputs, outputs))
            counted = _counted(probe, outputs)
        of_call = iter([(user, x.detach(), blame) for (user, x, _), blame in zip(sums, blamed, strict=True)])
        ratios = numbers([_ratio(one, [next(of_call) for _ in its]) for one, its in zip(plain, calls, strict=True)])
    logits = outputs.detach().double()[counted]
    gradient = by_outputs.double()[counted] * len(logits)
    return recorded(
        "gradient_heatmap",
        how,
        {"gradient": (gradient[:rows].float().cpu().numpy(), ("image", "class")), "ratio": (ratios, ("site",))},
        sites=tuple(matrix.site for matrix in plain),
        scalars={
            **_likeness(gradient, logits),
            "median_ratio": _median(ratios),
        },
        units={"gradient": "loss / logit"},
    )


def _median(ratios: list[float]) -> float:
    # torch's median of an even number is the lower of the two in the middle.
    return float(np.median(ratios or [math.nan]))


def _class_axis(labels: Tensor | None, outputs: Tensor) -> int:
    """1 where the labels say that outputs are as `torch.nn.functional` has them, the last axis elsewhere."""
    if labels is None or labels.is_floating_point() or labels.shape == outputs.shape[:-1]:
        return -1
    return 1 if labels.shape == outputs.shape[:1] + outputs.shape[2:] else -1


def _counted(probe: Probe, outputs: Tensor) -> Tensor:
    """(N,) or (N, T): which rows the loss counts."""
    labels = probe.labels
    if labels is None or labels.is_floating_point() or labels.shape != outputs.shape[:-1]:
        return torch.ones(outputs.shape[:-1], dtype=torch.bool, device=outputs.device)
    return labels >= 0


def _likeness(gradient: Tensor, logits: Tensor) -> dict[str, float]:
    """Of rows (M, C)."""
    total = gradient.abs().sum()
    unit = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    unit = unit[(gradient != 0).any(1)]
    pairs = len(unit) * (len(unit) - 1)
    # The sum of all cosines is the squared length of the sum of rows; each row's own is 1.
    cosine = (unit.sum(0).square().sum() - len(unit)) / pairs if pairs else total * math.nan
    predicted = logits.argmax(1).bincount(minlength=logits.shape[1])
    mode = predicted.max().double() / max(len(logits), 1)
    found = {
        # torch takes NaN for the greatest: a network that diverged would predict one class.
        "mode": torch.where(logits.isnan().any(), math.nan, mode),
        "colcons": gradient.sum(0).abs().sum() / total,
        "cosine": cosine,
        "maxcol": gradient.abs().sum(0).max() / total,
    }
    return dict(zip(found, numbers(list(found.values())), strict=True))


def _users(network: nn.Module, matrix: Matrix) -> list[nn.Module]:
    """The layers that have these weights: one, unless they are shared, where one gradient is the sum over all."""
    weight = matrix.owner._parameters.get("weight")
    shared = () if weight is None else network.modules()
    others = [one for one in shared if is_plain(one) and one._parameters.get("weight") is weight]
    return list(dict.fromkeys([matrix.owner, *others]))


def _ratio(matrix: Matrix, calls: list[tuple[nn.Module, Tensor, Tensor]]) -> Tensor:
    """b / a () over all calls of the layers that have these weights.

    A weight's gradient is a sum of products of an input and of what its output is blamed for, and the magnitude of a
    product is the product of magnitudes: a is the gradient that the magnitudes would give.
    """
    weight = torch.zeros_like(matrix.value, dtype=torch.float64)
    pulled, pulling = torch.zeros_like(weight), torch.zeros_like(weight)
    for layer, x, blame in calls:
        pulled += _by_weight(layer, weight, x.double(), blame.double())
        pulling += _by_weight(layer, weight, x.double().abs(), blame.double().abs())
    return pulled.abs().sum() / pulling.sum()


def _by_weight(layer: nn.Module, weight: Tensor, x: Tensor, blame: Tensor) -> Tensor:
    """The gradient (as the weight) of what a layer puts out, times `blame`.

    Of a convolution without convolving, which in double precision takes longer than all else; the bits are the same.
    """
    with torch.autocast(x.device.type, enabled=False):
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and _is_simple(layer, x):
            how = (layer.stride, layer.padding, layer.dilation, layer.groups)
            return _WEIGHT_GRADIENTS[weight.dim()](x, weight.shape, blame, *how)
        leaf = weight.clone().requires_grad_()
        (found,) = torch.autograd.grad((applied(layer, x, leaf) * blame).sum(), leaf)
    return found


_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    3: torch.nn.grad.conv1d_weight,
    4: torch.nn.grad.conv2d_weight,
    5: torch.nn.grad.conv3d_weight,
}
"""By the axes of the weights."""


def _is_simple(layer: AnyConv, x: Tensor) -> bool:
    """Whether its padding is a number of zeros a side, and x has an axis of examples."""
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and x.dim() == layer.weight.dim()
