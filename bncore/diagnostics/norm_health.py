"""How the normalization layers of a network in training are doing, by layer, and in words that say what to do.

It measures what `diagnose` does, and compares running statistics with those of an earlier time.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from torch import Tensor, nn

from bncore.diagnostics._passage import Passage, passage
from bncore.diagnostics._probe import How, inside, probing, run_on, seed_all
from bncore.diagnostics._recorded import recorded
from bncore.diagnostics.normalization import diagnose, read_off
from bncore.diagnostics.report import LayerDiagnosis
from bncore.norm.model.found import normalizations
from bncore.recording import Recording, Site
from bncore.spec.diagnostics import NormHealthSpec

WORSE = 0.05
"""So much accuracy lost by the running statistics is more than the noise of some hundred test examples."""


class HealthWarning(NamedTuple):
    """What is wrong with a layer (or "" for the network), as a word for programs and in words that say what to do."""

    layer: str
    code: str
    words: str


@dataclass(frozen=True)
class NormHealth:
    """What was found; see `norm_health`."""

    recording: Recording
    warnings: tuple[HealthWarning, ...]
    """By layer in the order of the pass, the worst of each first."""

    def figure(self) -> dict[str, Any]:
        """A Vega-Lite document of the recording."""
        return self.recording.figure()


def norm_health(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    earlier: Mapping[str, Tensor] | None = None,
    accuracy: Mapping[str, float] | None = None,
    examples: Mapping[str, int] | None = None,
    depths: Mapping[str, int] | None = None,
    at_end: bool = True,
    **how: Unpack[How],
) -> NormHealth:
    """By layer, how its running statistics fit the batch and how they move, and what of it does not work.

    Sites: normalization layers in the order of the pass (role `norm`), those in recurrences too, which lie equally deep
    and have their place in the cell for a role (`norm_ih`, `norm_hh`, `norm_h`, `norm_c`, of the backward direction
    `norm_ih_backward` and so on). Arrays (site,), NaN where a layer has no such thing:

    - `gap`: |training - evaluation output| / |training output| on the batch, "1"; `mean_gap`: greatest |batch mean -
      running mean| of a channel, in "running standard deviations"; `variance_gap`: greatest |ln(batch variance /
      running variance)|, "1". Of statistics of each step, the worst step.
    - `mean_drift`, `variance_drift`: the same two of the running statistics against those of `earlier`; NaN where
      `earlier` has none of the layer, or none of its shape, as at the first time.
    - `dead`: share of channels whose variance drowns in eps. `non_finite`: how many values of the layer's parameters
      and statistics are not finite.
    - `clipped_r`, `clipped_d`: of batch renorm, shares of channels at the bounds that hold now.
    - `values` per channel in the batch; `updates`: batches that the running statistics have seen, and
      `updates_wanted`, 5 / momentum, after which 1 % is left of what they began with.

    Scalars: the greatest of each of the first nine, as `max_<name>`; `layers`; `accuracy_*` and `examples_*` as given.

    Warnings have the codes of `LayerDiagnosis.coded`, and of this function `few_updates` (fewer than wanted, at the end
    of training), `stale_statistics` and `batch_dependent` (accuracy with precise statistics is more than 5
    points above that with running ones: arXiv 2105.07576; that with batch ones above both: section 2 of arXiv
    1702.03275).

    Args:
        model: in the state that training has left it in; see `How` for all that is not said here.
        inputs: a training batch, as large as in training, if the numbers are to be those of training. None: nothing is
            passed, and what needs a batch is NaN: all but drift, what is not finite, and updates.
        labels: not looked at.
        earlier: running statistics of then, of `running_statistics`, or any earlier `state_dict`.
        accuracy: test accuracy by statistics: `running`, `batch`, `precise`, as far as it was measured.
        examples: how many it was measured on: `accuracy`, of the test data, and `precise`, of the training data.
        depths: how deep layers lie, by their names, in the order of the pass, where that is known; a layer that is not
            among them lies where the one does that it is a part of. The model itself is looked at then, as `diagnose`
            does. Otherwise a copy is, which is passed once more to find them.
        at_end: whether training is over; before that, running statistics may still be young.
    """
    looked = _looked_through(model, inputs, labels, how) if depths is None else _looked_at(model, inputs, depths, how)
    said = sorted(looked.layers, key=lambda layer: looked.places[layer.name][:2])
    sites = tuple(Site(layer.name, looked.places[layer.name][2], _role(layer.name)) for layer in said)
    rows = [_row(layer, looked.modules[layer.name], earlier) for layer in said]
    arrays = {name: [row[name] for row in rows] for name in _NAMES}
    scalars = {f"max_{name}": _greatest(arrays[name]) for name in NormHealthSpec.greatest}
    scalars |= {"layers": float(len(rows)), **{f"accuracy_{name}": value for name, value in (accuracy or {}).items()}}
    scalars |= {f"examples_{name}": float(count) for name, count in (examples or {}).items()}
    recording = recorded(
        "norm_health",
        how,
        {name: (array, ("site",)) for name, array in arrays.items()},
        sites=sites,
        scalars=scalars,
        units=_UNITS,
    )
    warnings = [
        *_warnings(said, at_end=at_end),
        *_warnings_of_accuracy(accuracy or {}, (examples or {}).get("accuracy")),
    ]
    return NormHealth(recording, tuple(warnings))


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the running statistics of all normalization layers, by their names in the state, for `earlier`."""
    return {
        f"{name}.{key}" if name else key: buffer.detach().clone()
        for name, layer in normalizations(model, batch_statistics=True)
        for key, buffer in layer.named_buffers()
    }


_NAMES = (*NormHealthSpec.greatest, "values", "updates", "updates_wanted")
_UNITS = {
    **dict.fromkeys(("mean_gap", "mean_drift", "max_mean_gap", "max_mean_drift"), "running standard deviations"),
    **dict.fromkeys(("updates", "updates_wanted"), "batches"),
}
_CURES = {
    "not_finite": "lower the learning rate, or clip gradients, and begin again from weights that are finite",
    "input_not_finite": "look at the layers and the data in front of it",
    "not_reached": "leave it out, or use it",
    "dead": "lower the learning rate, or leave them out; inputs that never vary need a larger eps",
    "output_not_finite": "recalibrate the running statistics",
    "clipped": "raise r_max and d_max, or lower the learning rate",
    "few_values": "use larger batches, batch renorm, or a norm that needs no batch",
    "small_scales": "spare scales from weight decay if these are not meant to be off",
}
"""Of findings whose sentence does not say it."""


class _Looked(NamedTuple):
    """What was found of the layers, the modules of the network that was looked at, and where in it each layer is."""

    layers: tuple[LayerDiagnosis, ...]
    modules: Mapping[str, nn.Module]
    places: Mapping[str, tuple[int, int, int]]
    """Turn, number among the modules, depth."""


def _looked_through(model: nn.Module, inputs: Any, labels: Tensor | None, how: How) -> _Looked:
    """Of a copy, which is passed once more to find where its layers lie."""
    with probing(model, inputs, labels, how) as probe:
        modules = dict(probe.network.named_modules())
        if inputs is None:
            found = read_off(probe.network)
            return _Looked(found.layers, modules, {layer.name: (0, at, 0) for at, layer in enumerate(found.layers)})
        passed = passage(probe)
        probe.begin()
        found = diagnose(probe.network, inputs, forward=lambda *_: probe.run())
    return _Looked(found.layers, modules, {layer.name: _place(passed, modules, layer.name) for layer in found.layers})


def _looked_at(model: nn.Module, inputs: Any, depths: Mapping[str, int], how: How) -> _Looked:
    """As evaluation runs it, on the model itself: `diagnose` leaves it as it was, and nothing of it is trained."""
    network = inside(model)

    def forward(*_: Any) -> Any:
        # Whoever draws in a layer draws the same at every time.
        seed_all(how.get("seed", 0))
        return run_on(network, inputs, how.get("forward"), how.get("lengths"))

    found = read_off(network) if inputs is None else diagnose(network, inputs, forward=forward)
    modules = dict(network.named_modules())
    turns, numbers = ({name: at for at, name in enumerate(names)} for names in (depths, modules))

    def place(name: str) -> tuple[int, int, int]:
        owner = name
        while owner and owner not in depths:
            owner = owner.rpartition(".")[0]
        return turns.get(owner, len(depths)), numbers[name], depths.get(owner, 0)

    return _Looked(found.layers, modules, {layer.name: place(layer.name) for layer in found.layers})


def _place(passed: Passage, layers: Mapping[str, nn.Module], name: str) -> tuple[int, int, int]:
    """Of a layer, or of the layer that it is a part of: its turn, its place among the modules, its depth."""
    number = list(layers).index(name)
    owner = name
    while True:
        call = next((call for call in passed.calls if call.name == owner), None)
        if call is not None or not owner:
            depth = 0 if call is None else call.after.depth if owner == name else call.depth_inside(name)
            return len(passed.calls) if call is None else call.order, number, depth
        owner = owner.rpartition(".")[0]


def _role(name: str) -> str:
    inside = re.search(r"(?:^|\.)(reverse_)?cells\.\d+\.(norm_\w+)$", name)
    return "norm" if inside is None else inside[2] + "_backward" * (inside[1] is not None)


def _row(said: LayerDiagnosis, layer: nn.Module, earlier: Mapping[str, Tensor] | None) -> dict[str, float]:
    mean_drift, variance_drift = _drift(said.name, layer, earlier)
    # Most layers are whole, and are not counted again.
    tensors = [*layer.parameters(), *layer.buffers()] if said.not_finite else []
    return {
        "gap": _number(said.gap),
        "mean_gap": _number(None if said.mean_shift is None else said.mean_shift.value),
        "variance_gap": _number(None if said.log_variance_ratio is None else said.log_variance_ratio.value),
        "mean_drift": mean_drift,
        "variance_drift": variance_drift,
        "dead": len(said.dead) / said.channels if said.channels else math.nan,
        "non_finite": float(sum(int((~tensor.isfinite()).sum()) for tensor in tensors)),
        "clipped_r": _number(said.clipped_r),
        "clipped_d": _number(said.clipped_d),
        "values": _number(said.values),
        "updates": _number(said.batches_seen),
        "updates_wanted": _number(said.updates_wanted),
    }


def _drift(name: str, layer: Any, earlier: Mapping[str, Tensor] | None) -> tuple[float, float]:
    """Greatest shift of a running mean, in standard deviations of now, and greatest |ln| of a ratio of variances."""
    buffers = dict(layer.named_buffers(recurse=False))
    square = "running_var" if "running_var" in buffers else "running_square"
    prefix = f"{name}." if name else ""
    then = {key: (earlier or {}).get(prefix + key) for key in ("running_mean", square)}
    found = {}
    scale = buffers[square].double() + layer.eps if square in buffers else None
    for key, before in then.items():
        if before is None or key not in buffers or before.shape != buffers[key].shape or scale is None:
            found[key] = math.nan
            continue
        before = before.to(scale)
        if key == square:
            found[key] = float((scale / (before + layer.eps)).log().abs().max())
        else:
            found[key] = float(((buffers[key].double() - before).abs() / scale.sqrt()).max())
    return found["running_mean"], found[square]


def _warnings(said: list[LayerDiagnosis], *, at_end: bool) -> list[HealthWarning]:
    found = []
    for layer in said:
        for finding in layer.coded:
            if finding.code == "cold_start" and not at_end:
                continue
            cure = _CURES.get(finding.code)
            words = finding.sentence if cure is None else f"{finding.sentence}; {cure}"
            found.append(_warning(layer, finding.code, words))
        seen, wanted = layer.batches_seen, layer.updates_wanted
        if at_end and seen is not None and wanted is not None and seen < wanted and layer.cold_start is not None:
            words = (
                f"its running statistics have seen {seen} batches, and their momentum wants {wanted:.0f}: "
                "evaluate with precise statistics, train longer, or enlarge the momentum"
                if wanted < math.inf
                else "its momentum is 0, so that its running statistics stay what they began with: evaluate with "
                "precise statistics, or give it a momentum"
            )
            found.append(_warning(layer, "few_updates", words))
    return found


def _warning(layer: LayerDiagnosis, code: str, words: str) -> HealthWarning:
    return HealthWarning(layer.name, code, f"{layer.name or 'the model'}: {words}")


def _warnings_of_accuracy(accuracy: Mapping[str, float], examples: int | None) -> list[HealthWarning]:
    running, precise, batch = (accuracy.get(name, math.nan) for name in ("running", "precise", "batch"))
    of, found = "" if examples is None else f" of {examples:,} test examples", []

    def warn(code: str, name: str, other: float, cure: str) -> None:
        words = f"accuracy{of} is {running:.1%} with running statistics and {other:.1%} with {name} ones; {cure}"
        found.append(HealthWarning("", code, words))

    if precise - running > WORSE:
        warn("stale_statistics", "precise", precise, "evaluate with precise statistics, or enlarge the momentum")
    # Where precise ones mend it, the batch is not what is wanted.
    if batch - (running if math.isnan(precise) else max(running, precise)) > WORSE:
        cure = "use larger or mixed batches, batch renorm, or a norm that needs no batch"
        warn("batch_dependent", "batch", batch, cure)
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _greatest(values: list[float]) -> float:
    """NaN of nothing; what is not finite is greater than all."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)
