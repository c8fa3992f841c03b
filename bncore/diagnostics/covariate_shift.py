"""How far distributions of pre-activations move in training, and gradients when the layers below them are updated."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from bncore.diagnostics._along import square_of
from bncore.diagnostics._channels import valid_steps, values_of
from bncore.diagnostics._elementwise import is_elementwise
from bncore.diagnostics._on_host import on_host
from bncore.diagnostics._passage import Call, Passage, inside_a_norm, passage
from bncore.diagnostics._passes import by_weights
from bncore.diagnostics._probe import How, Probe, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording, Site

PERCENTILES = (15, 50, 85)
_AT_ONCE = 2**26
"""Bytes."""


def covariate_shift(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    lr: float | None = None,
    earlier: Recording | None = None,
    layers: int = 20,
    **how: Unpack[How],
) -> Recording:
    """Percentiles of pre-activations on fixed inputs, how far they moved, and internal covariate shift of gradients.

    Sites, in the order of the pass: what goes into each activation that is a module (`pre_activation`; where there is
    none, what comes out of each layer of weights), and the matrices of weights (`weights`). Each array holds NaN at
    sites that it is not about.

    Distributions. A unit is a channel, its values are those of all examples and positions without padding.
    `percentiles` (site, percentile): the 15th, 50th and 85th, as means over units. `unit_percentiles` (unit,
    percentile): of every unit, sites one after the other, `units` (site,) many each. With `earlier`, a recording of the
    same network on the same inputs: `drift` (site,), the mean over units of |q50 - earlier q50| / (q85 - q15), where
    the last two are of now; scalar `last_drift`: that of the last site. Source: arXiv 1502.03167, figure 1. What
    activations get, so behind scale and shift.

    Gradients, where `lr` and labels are given. For matrix i, G is the gradient of the loss by it, and G' that of the
    same batch after all that is passed before it took a step of gradient descent of size `lr`: `cosine` (site,), of G
    and G', and `relative` (site,), |G - G'| / |G|, both "1"; at 1 and 0 nothing shifts. Of at most `layers` places, in
    equal distances. Scalars `mean_cosine` and `mean_relative`. Source: arXiv 1805.11604, section 2.2,
    definition 2.1. Traps: a cosine depends on `lr`; momentum and adaptive rates are left out; the first matrix has
    nothing before it (1 and 0) and is left out of the means, as are NaN: frozen
    weights, those that were not looked at, and gradients that are not finite.

    Raises:
        ValueError: `earlier` is of another network or inputs of other size; `lr` without labels; all is frozen.
    """
    with probing(model, inputs, labels, how) as probe:
        passed = passage(probe)
        sites, units = _distributions(probe, passed)
        shift = (_blank(passed), _blank(passed)) if lr is None else _shifts(probe, passed, lr, layers)
    percentiles = np.array([rows.mean(0) for rows in units]).reshape(-1, len(PERCENTILES))
    drift = _drift(units, sites, earlier)
    blank = _blank(passed)
    counts = [len(rows) for rows in units] + [0] * len(blank)
    return recorded(
        "covariate_shift",
        how,
        {
            "percentile": (PERCENTILES, ("percentile",)),
            "percentiles": (np.vstack((percentiles, np.outer(blank, PERCENTILES))), ("site", "percentile")),
            "unit_percentiles": (np.vstack((np.empty((0, len(PERCENTILES))), *units)), ("unit", "percentile")),
            "units": (np.array(counts), ("site",)),
            "drift": (np.concatenate((drift, blank)), ("site",)),
            **{
                name: (np.concatenate((np.full(len(sites), math.nan), values)), ("site",))
                for name, values in zip(("cosine", "relative"), shift, strict=True)
            },
        },
        sites=(*sites, *passed.sites),
        scalars=_means(drift, passed, shift),
    )


def _blank(passed: Passage) -> np.ndarray:
    return np.full(len(passed.matrices), math.nan)


def _distributions(probe: Probe, passed: Passage) -> tuple[tuple[Site, ...], list[np.ndarray]]:
    """The sites, and of each the percentiles of its units (C, percentile)."""
    valid = valid_steps(probe)
    hidden = tuple(inside_a_norm(passed.calls))
    seen = [call for call in passed.calls if not call.name.startswith(hidden)]
    calls = [call for call in seen if is_elementwise(call.module)]
    before = bool(calls)
    if not before:
        calls = [call for call in seen if call.module in passed.layers]
    waiting: dict[nn.Module, list[Call]] = {}
    for call in calls:
        waiting.setdefault(call.module, []).append(call)
    units = _Units()

    def look(module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        call = waiting[module].pop(0)
        given = args[0] if before else output
        way = call.before if before else call.after
        units.see(call.order, values_of(given[0] if isinstance(given, tuple) else given, way.axis, valid))

    with ExitStack() as until, torch.no_grad():
        for module in waiting:
            register: Any = module.register_forward_pre_hook if before else module.register_forward_hook
            until.callback(register(look).remove)
        probe.outputs()
    sites = tuple(Site(c.label, (c.before if before else c.after).depth, "pre_activation") for c in calls)
    found = units.percentiles()
    return sites, [found[call.order] for call in calls]


class _Units:
    """The units of each site, brought to the host together, but for so many of them as memory should hold at once."""

    def __init__(self) -> None:
        self._waiting: dict[int, Tensor] = {}
        self._found: dict[int, np.ndarray] = {}

    def see(self, order: int, values: Tensor) -> None:
        """Take values (M, C), which a neighbour may overwrite afterwards."""
        self._waiting[order] = values.detach().clone()
        if sum(one.nbytes for one in self._waiting.values()) > _AT_ONCE:
            self.percentiles()

    def percentiles(self) -> dict[int, np.ndarray]:
        """By order, those of each unit (C, percentile)."""
        for order, values in zip(self._waiting, on_host([*self._waiting.values()]), strict=True):
            self._found[order] = _percentiles(values)
        self._waiting.clear()
        return self._found


def _percentiles(values: Tensor) -> np.ndarray:
    """Of values (M, C), those of each unit (C, percentile)."""
    wide = values.to(torch.float64).numpy()
    if len(wide) == 0:
        return np.full((wide.shape[1], len(PERCENTILES)), math.nan)
    with np.errstate(all="ignore"):
        found: np.ndarray = np.percentile(wide, PERCENTILES, axis=0).T
    return found


def _drift(units: Sequence[np.ndarray], sites: Sequence[Site], earlier: Recording | None) -> np.ndarray:
    """How far the median of units moved at each site, in widths of their distributions."""
    if earlier is None:
        return np.full(len(sites), math.nan)
    # By their names: a version before may have counted depth otherwise.
    known = [site.name for site in earlier.sites if site.role == "pre_activation"]
    before = earlier.arrays.get("unit_percentiles")
    if known != [site.name for site in sites] or before is None or len(before) != sum(map(len, units)):
        raise ValueError("the earlier recording is of another network, or of no covariate shift")
    low, middle, high = np.vstack(units).T
    with np.errstate(all="ignore"):
        moved = np.abs(middle - before[:, 1]) / (high - low)
    ends = np.cumsum([len(rows) for rows in units])[:-1]
    return np.array([of_site.mean() for of_site in np.split(moved, ends)])


def _shifts(probe: Probe, passed: Passage, lr: float, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and relative change of the gradient by each matrix once what is before it was updated."""
    cosine, relative = _blank(passed), _blank(passed)
    compared: dict[int, Tensor] = {}
    here, _ = by_weights(probe, passed)
    _, gradient = probe.gradient()
    for order in _some(sorted({m.order for m, g in zip(passed.matrices, here, strict=True) if g is not None}), layers):
        below = {name: value for name, value in gradient.items() if passed.parameter_order[name] < order}
        with probe.moved(below, -lr):
            there, _ = by_weights(probe, passed)
        for number, matrix in enumerate(passed.matrices):
            one, two = here[number], there[number]
            if matrix.order == order and one is not None and two is not None:
                compared[number] = _compared(one.double(), two.double())
    for number, read in zip(compared, on_host([*compared.values()]), strict=True):
        cosine[number], relative[number] = _alike(*read.tolist())
    return cosine, relative


def _some(orders: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """So many of them in equal distances, the last among them."""
    if len(orders) <= most:
        return orders
    return [orders[at] for at in sorted({round(at) for at in np.linspace(0, len(orders) - 1, most)})]


def _compared(one: Tensor, two: Tensor) -> Tensor:
    """(4,): the squares of both, of their difference, and their product."""
    return torch.stack([square_of([one]), square_of([two]), square_of([one - two]), (one * two).sum()])


def _alike(one: float, two: float, between: float, product: float) -> tuple[float, float]:
    """Cosine and relative distance."""
    if not one or not two:
        return math.nan, math.nan
    return product / (math.sqrt(one) * math.sqrt(two)), math.sqrt(between) / math.sqrt(one)


def _means(drift: np.ndarray, passed: Passage, shift: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    first = passed.matrices[0].order if passed.matrices else None
    behind = np.array([matrix.order != first for matrix in passed.matrices], bool)
    found = {"last_drift": float(drift[-1]) if len(drift) else math.nan}
    for name, values in zip(("mean_cosine", "mean_relative"), shift, strict=True):
        looked_at = values[behind & ~np.isnan(values)]
        found[name] = float(looked_at.mean()) if len(looked_at) else math.nan
    return found
