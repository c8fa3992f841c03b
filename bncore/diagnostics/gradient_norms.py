"""How gradients grow or vanish with depth."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from bncore.diagnostics._on_host import numbers
from bncore.diagnostics._passage import passage
from bncore.diagnostics._passes import by_weights
from bncore.diagnostics._probe import How, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording, Site


def gradient_norms(model: nn.Module, inputs: Any, labels: Tensor | None = None, **how: Unpack[How]) -> Recording:
    """The norm of the gradient of the loss by each matrix of weights, and how it grows per layer.

    Sites are matrices in the order of the pass (role `weights`); a layer that has several has one site each, by name.
    Array (site,): `norm`, |dL/dW|_F, in the unit "loss / weight"; NaN where W is frozen.

    Scalars: `growth` = (|dL/dW_2| / |dL/dW_L|)^(1 / (L - 2)), per layer backwards, between the matrices of depth 2 and
    the deepest, L: above 1, gradients explode towards the input; NaN for L < 3. Of several at one depth, the norm over
    all of them. `hidden_growth`: the same between depths 2 and L - 1, NaN for L < 4: the step to an output layer that
    is not normalized is another one (by half, as a rule), and weighs in `growth`. `total`: over all sites.

    Source: arXiv 1902.08129 (a plain network of batch norm and ReLU: sqrt(pi / (pi - 1)) = 1.21 per layer, at
    initialization and for large batches). Traps: skips cure the growth; the ratio is of norms, not of squares; weights
    that are normalized (weight norm, spectral norm) count as they are used, not as they are learned.

    Raises:
        ValueError: all is frozen, or there are no labels.
    """
    with probing(model, inputs, labels, how) as probe:
        passed = passage(probe)
        gradients, _ = by_weights(probe, passed)
    found = iter(numbers([torch.linalg.vector_norm(one.double()) for one in gradients if one is not None]))
    norms = [math.nan if one is None else next(found) for one in gradients]
    total = math.hypot(*(norm for norm, one in zip(norms, gradients, strict=True) if one is not None))
    deepest = max((site.depth for site in passed.sites), default=0)
    return recorded(
        "gradient_norms",
        how,
        {"norm": (norms, ("site",))},
        sites=passed.sites,
        scalars={
            "growth": _growth(passed.sites, norms, deepest),
            "hidden_growth": _growth(passed.sites, norms, deepest - 1),
            "total": total,
        },
        units={"norm": "loss / weight", "total": "loss / weight"},
    )


def _growth(sites: tuple[Site, ...], norms: list[float], deepest: int) -> float:
    if deepest < 3:
        return math.nan
    second, last = (
        math.hypot(*(norm for site, norm in zip(sites, norms, strict=True) if site.depth == depth))
        for depth in (2, deepest)
    )
    return math.nan if last == 0.0 else float((second / last) ** (1.0 / (deepest - 2)))
