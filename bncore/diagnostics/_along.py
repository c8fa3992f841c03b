"""The loss and its gradient at points along the negative gradient, with the same noise at all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bncore.diagnostics._probe import Probe

GRID = tuple(float(f"{10 ** (half / 2):.3g}") for half in range(-6, 5))
"""Half decades from 0.001 to 100."""


@dataclass(frozen=True)
class Along:
    """Arrays (distance,): eta, loss L(w - eta g), change |g(w - eta g) - g(w)| of the gradient (NaN: not asked)."""

    eta: np.ndarray
    loss: np.ndarray
    change: np.ndarray
    loss_at_0: float
    gradient_norm: float
    weights_squared: float
    """|w|^2 of all that learns."""


def along(probe: Probe, distances: Sequence[float], *, with_gradients: bool) -> Along:
    """Look at each of the distances.

    Raises:
        ValueError: there is none, or one is not finite; all is frozen, or there are no labels.
    """
    if not len(distances) or not all(math.isfinite(eta) for eta in distances):
        raise ValueError(f"distances are finite numbers, one at the least, and here {list(distances)}")
    loss_at_0, gradient = probe.gradient()
    losses, changes = [], []
    for eta in distances:
        with probe.moved(gradient, -eta):
            if with_gradients:
                loss, there = probe.gradient()
                changes.append(norm_of([there[name] - here for name, here in gradient.items()]))
            else:
                with torch.no_grad():
                    loss = probe.loss().item()
                changes.append(math.nan)
        losses.append(loss)
    return Along(
        eta=np.array(distances, float),
        loss=np.array(losses),
        change=np.array(changes),
        loss_at_0=loss_at_0,
        gradient_norm=norm_of(list(gradient.values())),
        weights_squared=norm_of([value.detach() for value in probe.learning.values()]) ** 2,
    )


def norm_of(tensors: Sequence[Tensor]) -> float:
    """Of all of them as one vector, in float64."""
    squares = [torch.linalg.vector_norm(tensor, dtype=_wide(tensor)).double().square() for tensor in tensors]
    return math.sqrt(torch.stack(squares).sum().item())


def _wide(tensor: Tensor) -> torch.dtype:
    # The one kind of device without double precision.
    return torch.float32 if tensor.device.type == "mps" else torch.float64
