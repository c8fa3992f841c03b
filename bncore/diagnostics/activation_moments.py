"""How the moments of activations change with depth."""

import itertools
import math
from contextlib import ExitStack
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from bncore.diagnostics._channels import normalized_values, valid_steps, values_of
from bncore.diagnostics._elementwise import is_elementwise, saturated_share
from bncore.diagnostics._on_host import on_host
from bncore.diagnostics._own_weights import is_norm
from bncore.diagnostics._passage import Call, Passage, inside_a_norm, passage
from bncore.diagnostics._probe import How, Probe, probing
from bncore.diagnostics._recorded import recorded
from bncore.norm.model.population import in_double
from bncore.recording import Recording, Site


def activation_moments(
    model: nn.Module, inputs: Any, labels: Tensor | None = None, *, from_depth: int = 3, **how: Unpack[How]
) -> Recording:
    """Mean, variance, kurtosis, and the dead and saturated shares of every layer, by depth.

    Sites, in the order of the pass: each layer of weights (`weights`, its output), each normalization (`before_norm`
    and `after_norm`), each activation that is a module (`activation`), each module that adds two branches (`sum`), and
    the `output`. A unit is a channel; its values are those of all examples and positions, without padding.

    Arrays (site,), all "1": `mean` and `mean_magnitude` (means over units of their mean, and of its magnitude),
    `variance` (mean over units of the biased variance), `kurtosis` (mean over units that vary of
    E(x - mean)^4 / variance^2; 3 for a Gaussian), `dead` (share of units with one value for all), `saturated` (of
    activations, share of values at which the derivative is below 5 % of the steepest; NaN elsewhere).

    Scalars: `slope_<role>`, that of the least squares line through log10 of the variance over depth, per layer, from
    depth `from_depth` on where three depths are left; and `slope`, that of activations, or of weights where there are
    none. Above 0.05 variances grow exponentially, within 0.01 they stay (arXiv 1806.02375, section 3.2, at
    initialization). NaN where a variance is 0 or not finite.

    Traps: growth is that of networks with sums or too large weights; a He-initialized plain one does not grow, and one
    of Glorot's with ReLU decays. Activations that are called as functions are not seen, nor is what happens inside of a
    recurrent layer. `labels` are not looked at.
    """
    with probing(model, inputs, labels, how) as probe:
        passed = passage(probe)
        watch = _Watch(probe, passed)
        with torch.no_grad(), watch:
            output = probe.outputs()
        watch.see(
            Site("output", passed.end.depth, "output"),
            len(passed.calls),
            values_of(output, passed.end.axis, watch.valid),
        )
    rows = sorted(watch.rows, key=lambda row: row.order)
    sites = tuple(row.site for row in rows)
    arrays = dict(zip(_MEASURES, _read(rows), strict=True))
    scalars = _slopes(sites, arrays["variance"], from_depth)
    with_axes = {name: (array, ("site",)) for name, array in arrays.items()}
    return recorded("activation_moments", how, with_axes, sites=sites, scalars=scalars)


_MEASURES = ("mean", "mean_magnitude", "variance", "kurtosis", "dead", "saturated")


class _Moments(NamedTuple):
    """Of values (M, C), where they were measured: means (4,) of mean, its magnitude and variance, and the
    dead share; by unit (C,) the kurtosis, and whether it varies."""

    means: Tensor
    kurtosis: Tensor
    varies: Tensor


class _Row(NamedTuple):
    order: tuple[int, int]
    """Of its call, and 0 before it or 1 after it."""
    site: Site
    moments: _Moments
    saturated: Tensor | None


class _Watch:
    """Within it, one pass is measured at the sites as it comes by, before a neighbour can work in place."""

    def __init__(self, probe: Probe, passed: Passage) -> None:
        self.valid = valid_steps(probe)
        self.rows: list[_Row] = []
        self._until = ExitStack()
        self._layers = passed.layers
        self._calls: dict[nn.Module, list[Call]] = {}
        hidden = tuple(inside_a_norm(passed.calls))
        for call in passed.calls:
            if not call.name.startswith(hidden):
                self._calls.setdefault(call.module, []).append(call)

    def __enter__(self) -> None:
        for module in self._calls:
            self._until.callback(module.register_forward_pre_hook(self._before, with_kwargs=True).remove)
            self._until.callback(module.register_forward_hook(self._after, with_kwargs=True).remove)

    def __exit__(self, *_: Any) -> None:
        self._until.close()

    def see(self, site: Site, order: int, values: Tensor, saturated: Tensor | None = None, *, after: int = 1) -> None:
        """Measure values (M, C)."""
        self.rows.append(_Row((order, after), site, _moments(values), saturated))

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self._calls[module][0]
        if is_norm(module):
            values = normalized_values(module, args, kwargs, self.valid)
            self.see(Site(call.label, call.before.depth, "before_norm"), call.order, values, after=0)
        elif is_elementwise(module):
            # The steepness is that of what comes in, and a module may overwrite it.
            values = values_of(args[0], call.before.axis, self.valid)
            self._share = saturated_share(module, values)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._calls[module].pop(0)
        first = output[0] if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor) else output
        if is_norm(module):
            values = normalized_values(module, (output, *args[1:]), kwargs, self.valid)
            self.see(Site(call.label, call.after.depth, "after_norm"), call.order, values)
            return
        if is_elementwise(module):
            values = values_of(first, call.before.axis, self.valid)
            self.see(Site(call.label, call.after.depth, "activation"), call.order, values, self._share)
        elif module in self._layers or _adds(module, args, output):
            role = "weights" if module in self._layers else "sum"
            self.see(
                Site(call.label, call.after.depth, role), call.order, values_of(first, call.after.axis, self.valid)
            )


def _adds(module: nn.Module, args: tuple[Any, ...], output: Any) -> bool:
    """Whether two branches of one shape meet in a module without parts or parameters."""
    if (
        len(args) != 2
        or not isinstance(output, Tensor)
        or any(True for _ in module.children())
        or any(True for _ in module.parameters())
    ):
        return False
    return all(isinstance(branch, Tensor) and branch.shape == output.shape for branch in args)


def _moments(values: Tensor) -> _Moments:
    """Of values (M, C)."""
    wide = in_double(values.detach())
    if values.numel() == 0:
        return _Moments(wide.new_full((4,), math.nan), wide.new_empty(0), wide.new_empty(0, dtype=torch.bool))
    mean = wide.mean(0)
    squares = (wide - mean).square()
    variance = squares.mean(0)
    varies = wide.amax(0) != wide.amin(0)
    means = (mean.mean(), mean.abs().mean(), variance.mean(), (~varies).double().mean())
    return _Moments(torch.stack(means), squares.square().mean(0) / variance.square(), varies)


def _read(rows: list[_Row]) -> np.ndarray:
    """(measure, site) of `_MEASURES`, all brought to the host together."""
    asked = [row.saturated for row in rows if row.saturated is not None]
    read = iter(on_host([*itertools.chain.from_iterable(row.moments for row in rows), *asked]))
    moments = [_Moments(next(read), next(read), next(read)) for _ in rows]
    shares = [math.nan if row.saturated is None else next(read).item() for row in rows]
    found = []
    for (means, kurtosis, varies), share in zip(moments, shares, strict=True):
        mean, magnitude, variance, dead = means.tolist()
        found.append((mean, magnitude, variance, kurtosis[varies].mean().item(), dead, share))
    return np.array(found).reshape(-1, len(_MEASURES)).T


def _slopes(sites: tuple[Site, ...], variance: np.ndarray, from_depth: int) -> dict[str, float]:
    found = {}
    for role in sorted({site.role for site in sites} - {"output"}):
        depth = np.array([site.depth for site in sites if site.role == role], float)
        of_role = variance[[site.role == role for site in sites]]
        deep = depth >= from_depth
        if len(set(depth[deep])) > 2:
            depth, of_role = depth[deep], of_role[deep]
        found[f"slope_{role}"] = _slope(depth, of_role)
    found["slope"] = found.get("slope_activation", found.get("slope_weights", math.nan))
    return found


def _slope(depth: np.ndarray, variance: np.ndarray) -> float:
    if len(set(depth)) < 2 or not np.all(np.isfinite(variance) & (variance > 0)):
        return math.nan
    centred = depth - depth.mean()
    return float(centred @ np.log10(variance) / (centred @ centred))
