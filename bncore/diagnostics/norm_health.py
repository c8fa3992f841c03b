"""How the normalization layers of a network in training are doing, by layer, and in words that say what to do.

It measures what `diagnose` does, and compares running statistics with those of an earlier time.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from torch import Tensor, nn

from bncore.diagnostics._health_warnings import HealthWarning, warnings_of_accuracy, warnings_of_layers
from bncore.diagnostics._on_host import on_host
from bncore.diagnostics._passage import passage
from bncore.diagnostics._probe import How, inside, probing, run_on, seed_all
from bncore.diagnostics._recorded import recorded
from bncore.diagnostics._saying import Said
from bncore.diagnostics.normalization import looked_through, read_off
from bncore.diagnostics.report import LayerDiagnosis
from bncore.norm.model.found import normalizations
from bncore.recording import Recording, Site
from bncore.spec.diagnostics import NormHealthSpec


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
      `updates_wanted`, 5 / momentum, after which 1 % is left of what they began with, both in "batches".

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
    said = [one.diagnosis for one in looked]
    sites = tuple(Site(one.diagnosis.name, one.depth, _role(one.diagnosis.name)) for one in looked)
    rows = [_row(one.diagnosis, one.layer, earlier) for one in looked]
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
        *warnings_of_layers(said, at_end=at_end),
        *warnings_of_accuracy(accuracy or {}, (examples or {}).get("accuracy")),
    ]
    return NormHealth(recording, tuple(warnings))


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of the running statistics of all normalization layers, by their names in the state.

    For `earlier`.
    """
    found = {
        f"{name}.{key}" if name else key: buffer
        for name, layer in normalizations(model, batch_statistics=True)
        for key, buffer in layer.named_buffers()
    }
    return {name: copied.clone() for name, copied in zip(found, on_host([*found.values()]), strict=True)}


_NAMES = (*NormHealthSpec.greatest, "values", "updates", "updates_wanted")
_UNITS = {
    **dict.fromkeys(("mean_gap", "mean_drift", "max_mean_gap", "max_mean_drift"), "running standard deviations"),
    **dict.fromkeys(("updates", "updates_wanted"), "batches"),
}


class _Looked(NamedTuple):
    """A layer as it was found, and where in the network it lies."""

    diagnosis: LayerDiagnosis
    layer: nn.Module
    """A copy on the host."""
    place: tuple[int, int]
    """In order."""
    depth: int


def _looked_through(model: nn.Module, inputs: Any, labels: Tensor | None, how: How) -> list[_Looked]:
    """Of a copy, which is passed once more to find where its layers lie."""
    with probing(model, inputs, labels, how) as probe:
        if inputs is None:
            return _placed(read_off(probe.network), probe.network, {})
        passed = passage(probe)
        probe.begin()
        found = looked_through(probe.network, inputs, lambda *_: probe.run())
    depths: dict[str, int] = {}
    for call in passed.calls:
        # Of a layer that is called again, the first call says where it lies.
        depths.setdefault(call.name, call.after.depth)
    return _placed(found, probe.network, depths, {call.name: call.depth_inside for call in reversed(passed.calls)})


def _looked_at(model: nn.Module, inputs: Any, depths: Mapping[str, int], how: How) -> list[_Looked]:
    """As evaluation runs it, on the model itself: looking leaves it as it was, and nothing of it is trained."""
    network = inside(model)

    def forward(*_: Any) -> Any:
        # Whoever draws in a layer draws the same at every time.
        seed_all(how.get("seed", 0))
        return run_on(network, inputs, how.get("forward"), how.get("lengths"))

    found = read_off(network) if inputs is None else looked_through(network, inputs, forward)
    return _placed(found, network, depths)


def _placed(
    found: Iterable[Said],
    network: nn.Module,
    depths: Mapping[str, int],
    inside: Mapping[str, Callable[[str], int]] | None = None,
) -> list[_Looked]:
    """In the order of the pass, that of `depths`.

    What is not among them lies where what it is a part of does, unless `inside` says of that how deep its parts lie.
    """
    turns, numbers = ({name: at for at, name in enumerate(names)} for names in (depths, dict(network.named_modules())))

    def looked(said: Said) -> _Looked:
        name = owner = said.diagnosis.name
        while owner and owner not in depths:
            owner = owner.rpartition(".")[0]
        part = None if inside is None or owner == name else inside.get(owner)
        depth = depths.get(owner, 0) if part is None else part(name)
        return _Looked(*said, (turns.get(owner, len(depths)), numbers[name]), depth)

    return sorted(map(looked, found), key=lambda one: one.place)


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


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _greatest(values: list[float]) -> float:
    """NaN of nothing; what is not finite is greater than all."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)
