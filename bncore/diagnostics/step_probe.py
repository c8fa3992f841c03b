"""What one step of gradient descent does to the loss, however long it is."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from bncore.diagnostics._along import GRID, along
from bncore.diagnostics._probe import How, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording

EXPLODED = 1e3
"""So many times the loss is divergence (arXiv 1806.02375, section 3)."""


def step_probe(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    distances: Sequence[float] = GRID,
    **how: Unpack[How],
) -> Recording:
    """The loss after one step of size eta along the negative gradient, L(w - eta g), for a grid of eta.

    Arrays (distance,): `eta`, in "weight^2 / loss", and `loss`. Scalars: `loss_0`, L(w); `exploded`, share of the grid
    with a loss above 1e3 L(w) or none that is finite; `largest_eta`, the largest of the grid up to which no loss is
    above L(w), 0 where there is none; `worst_ratio`, the largest L(w - eta g) / L(w) of the grid, infinite where a loss
    is none that is finite.

    g is the gradient by all parameters that learn, of the same batch; all points draw the same noise. The loss of a
    training pass: batch norm normalizes by the batch.

    Source: arXiv 1806.02375, section 3.1, figure 3. Traps: eta is not scale-invariant, so that a normalized network
    with large weights seems to take longer steps (see `weight_norms`).

    Raises:
        ValueError: all is frozen, or there are no labels.
    """
    with probing(model, inputs, labels, how) as probe:
        probed = along(probe, distances, with_gradients=False)
    loss, eta = probed.loss, probed.eta
    exploded = ~(loss <= EXPLODED * probed.loss_at_0)
    order = np.argsort(eta, kind="stable")
    descends = np.logical_and.accumulate(loss[order] <= probed.loss_at_0)
    return recorded(
        "step_probe",
        how,
        {"eta": (eta, ("distance",)), "loss": (loss, ("distance",))},
        scalars={
            "loss_0": probed.loss_at_0,
            "exploded": float(exploded.mean()),
            "largest_eta": float(eta[order][descends].max(initial=0.0)),
            "worst_ratio": _worst(loss) / probed.loss_at_0 if probed.loss_at_0 > 0 else math.nan,
        },
        units={"eta": "weight^2 / loss", "largest_eta": "weight^2 / loss", "loss": "loss", "loss_0": "loss"},
    )


def _worst(loss: np.ndarray) -> float:
    return float(loss.max()) if np.isfinite(loss).all() else math.inf
