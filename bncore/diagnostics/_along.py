"""The loss and its gradient at points along the negative gradient, with the same noise at all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bncore.diagnostics._on_host import numbers
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
    losses, changes = [loss_at_0], []
    for eta in distances:
        with probe.moved(gradient, -eta):
            if with_gradients:
                loss, there = probe.gradient()
                changes.append(square_of([there[name] - here for name, here in gradient.items()]))
            else:
                with torch.no_grad():
                    # A copy: it may be a piece of what moves back.
                    loss = probe.loss().clone()
        losses.append(loss)
    lengths = [square_of(list(of)) for of in (gradient.values(), (w.detach() for w in probe.learning.values()))]
    found = numbers([*losses, *lengths, *changes])
    gradient_norm, weights, *changed = map(math.sqrt, found[len(losses) :])
    return Along(
        eta=np.array(distances, float),
        loss=np.array(found[1 : len(losses)]),
        change=np.array(changed or [math.nan] * len(distances)),
        loss_at_0=found[0],
        gradient_norm=gradient_norm,
        weights_squared=weights**2,
    )


def square_of(tensors: Sequence[Tensor]) -> Tensor:
    """The squared length () of all of them as one vector, in float64."""
    squares = [torch.linalg.vector_norm(tensor, dtype=_wide(tensor)).double().square() for tensor in tensors]
    return torch.stack(squares).sum()


def _wide(tensor: Tensor) -> torch.dtype:
    # The one kind of device without double precision.
    return torch.float32 if tensor.device.type == "mps" else torch.float64
