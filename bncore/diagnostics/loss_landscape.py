"""How smooth the loss is along the gradient: loss, gradient and their changes on a fixed batch."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from bncore.diagnostics._along import along
from bncore.diagnostics._probe import How, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording

STEPS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""In learning rates: the range of arXiv 1805.11604 for a VGG."""


def loss_landscape(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    lr: float,
    steps: Sequence[float] = STEPS,
    **how: Unpack[How],
) -> Recording:
    """Loss and gradient at w - eta g for eta = lr * step, on one batch and with the same noise at all points.

    Arrays (distance,): `eta` ("weight^2 / loss"), `loss`, `gradient_change` = |g(w - eta g) - g(w)| ("loss / weight"),
    `smoothness` = gradient_change / (eta |g|) ("loss / weight^2").

    Scalars: `loss_0`, `min`, `max` and `range` of the loss over the steps (the paper's bands), `predictiveness` (the
    greatest gradient change; the smaller, the better the gradient predicts), `effective_smoothness` (the greatest
    smoothness, the paper's beta) and `scale_free_smoothness`, that times |w|^2. NaN and infinite where a loss is; a
    step of length 0, as at the end of a schedule, has no smoothness (NaN).

    Source: arXiv 1805.11604, section 3.1, figure 4. Traps: beta is not scale-invariant, and a normalized network can
    change its scale; a network whose loss is smaller has smaller changes, so compare at equal loss; take 20 points in
    time or more.

    Raises:
        ValueError: all is frozen, there are no labels, or `lr * step` is below 0.
    """
    return _landscape("loss_landscape", model, inputs, labels, lr, steps, how)


def gradient_predictiveness(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    lr: float,
    steps: Sequence[float] = STEPS,
    **how: Unpack[How],
) -> Recording:
    """Of `loss_landscape`, how far the gradient changes along itself: `eta`, `gradient_change`; `predictiveness`."""
    return _landscape("gradient_predictiveness", model, inputs, labels, lr, steps, how)


def effective_smoothness(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    lr: float,
    steps: Sequence[float] = STEPS,
    **how: Unpack[How],
) -> Recording:
    """Of `loss_landscape`, the change of the gradient per distance: `eta`, `smoothness`; `effective_smoothness`."""
    return _landscape("effective_smoothness", model, inputs, labels, lr, steps, how)


_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gradient_predictiveness": (("eta", "gradient_change"), ("loss_0", "predictiveness")),
    "effective_smoothness": (("eta", "smoothness"), ("loss_0", "effective_smoothness", "scale_free_smoothness")),
}
"""Arrays and scalars of what is a part of the landscape."""
_UNITS = {
    **dict.fromkeys(("loss", "loss_0", "min", "max", "range"), "loss"),
    **dict.fromkeys(("gradient_change", "predictiveness"), "loss / weight"),
    **dict.fromkeys(("smoothness", "effective_smoothness"), "loss / weight^2"),
    "scale_free_smoothness": "loss",
    "eta": "weight^2 / loss",
}


def _landscape(
    kind: str,
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None,
    lr: float,
    steps: Sequence[float],
    how: How,
) -> Recording:
    distances = [lr * step for step in steps]
    if not all(distance >= 0.0 for distance in distances):
        raise ValueError(f"steps of a rate of {lr} cannot be below 0, and here they are {distances}")
    with probing(model, inputs, labels, how) as probe:
        found = along(probe, distances, with_gradients=True)
    with np.errstate(all="ignore"):
        smoothness = found.change / (found.eta * found.gradient_norm)
        extent = found.loss.max() - found.loss.min()
        scale_free = smoothness.max() * found.weights_squared
    arrays = {"eta": found.eta, "loss": found.loss, "gradient_change": found.change, "smoothness": smoothness}
    scalars = {
        "loss_0": found.loss_at_0,
        "min": found.loss.min(),
        "max": found.loss.max(),
        "range": extent,
        "predictiveness": found.change.max(),
        "effective_smoothness": smoothness.max(),
        "scale_free_smoothness": scale_free,
    }
    wanted, of_all = _PARTS.get(kind, (tuple(arrays), tuple(scalars)))
    return recorded(
        kind,
        how,
        {name: (arrays[name], ("distance",)) for name in wanted},
        scalars={name: scalars[name] for name in of_all},
        units=_UNITS,
    )
