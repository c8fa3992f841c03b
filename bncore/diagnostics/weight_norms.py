"""How large weights are, and what that makes of the learning rate under normalization."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from bncore.diagnostics._on_host import numbers
from bncore.diagnostics._passage import passage
from bncore.diagnostics._passes import catching
from bncore.diagnostics._probe import How, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording


def weight_norms(
    model: nn.Module, inputs: Any, labels: Tensor | None = None, *, lr: float | None = None, **how: Unpack[How]
) -> Recording:
    """The norm of each matrix of weights, and the effective learning rate eta / |W|^2.

    Sites are matrices in the order of the pass (role `weights`). Arrays (site,): `norm`, |W|_F, in the unit "weight";
    `effective_lr`, lr / |W|^2 ("1 / loss"), NaN without `lr`. Scalar: `total`, over all matrices.

    Where a normalization follows, the function does not depend on |W|, and a step of gradient descent turns W as one of
    this rate would turn a W of length 1: weight decay acts by it alone (arXiv 1706.05350, section 2.3).

    Traps: of weights with a normalization of their own (weight norm, spectral norm) it is what the layer uses that is
    measured; adaptive optimizers have another effective rate; where nothing normalizes what comes out, such as in the
    last layer, the rate means nothing. `labels` are not looked at; the inputs are, for the order of the layers.
    """
    with probing(model, inputs, labels, how) as probe:
        passed = passage(probe)
        with catching(passed.matrices) as caught, torch.no_grad():
            probe.outputs()
        weights = [caught.weights[number] for number in range(len(passed.matrices))]
    norms = numbers([torch.linalg.vector_norm(weight.detach().double()) for weight in weights])
    rates = [_ratio(math.nan if lr is None else lr, norm**2) for norm in norms]
    return recorded(
        "weight_norms",
        how,
        {"norm": (norms, ("site",)), "effective_lr": (rates, ("site",))},
        sites=passed.sites,
        scalars={"total": math.hypot(*norms)},
        units={"norm": "weight", "total": "weight", "effective_lr": "1 / loss"},
    )


def _ratio(rate: float, square: float) -> float:
    return rate * math.inf if square == 0.0 else rate / square
