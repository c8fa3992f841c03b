"""What was seen of normalization layers, put into a diagnosis on the host.

Invariant: what the layers keep and what was measured of them leaves its device together, by one copy.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bncore.diagnostics._on_host import on_host
from bncore.diagnostics._statistics import Look, clipped, of_batch, of_steps, updates_wanted, where
from bncore.diagnostics._twin import kept, with_tensors
from bncore.diagnostics.report import LayerDiagnosis
from bncore.norm._moments import statistics_dtype
from bncore.norm.dynamic_tanh import DynamicTanh
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.global_response_norm import GlobalResponseNorm
from bncore.norm.model.overlay import own_class
from bncore.norm.model.population import population_of

_SMALL_SCALE = 1e-3


@dataclass
class Sight:
    """What came by one layer, in tensors of its device; without a pass, nothing."""

    reached: bool = True
    erases: bool = False
    largest: list[Tensor] = field(default_factory=list)
    """Of each input, the greatest magnitude (), which is not finite if one of them is not."""
    norms: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Of each input, those of the gap between training and evaluation output and of the training output, ()."""
    is_compared: bool = False
    """Whether there is a population, and so a gap."""
    values: Any = None
    """Moments of all inputs, ..."""
    found: Any = None
    """... and what the layer's population measured."""
    together: int = 0
    """Values per channel."""


class Said(NamedTuple):
    """A layer as it is on the host: itself, or a copy."""

    diagnosis: LayerDiagnosis
    layer: nn.Module


def said_of(layers: Sequence[tuple[str, nn.Module, Sight]]) -> list[Said]:
    """By layer, in their order."""
    tensors = {id(one): one for _, layer, sight in layers for one in _tensors(layer, sight)}
    if all(one.is_cpu for one in tensors.values()):
        with torch.no_grad():
            return [Said(_said(name, layer, sight), layer) for name, layer, sight in layers]
    here = dict(zip(tensors, on_host([*tensors.values()]), strict=True))
    found = []
    for name, layer, sight in layers:
        copied = with_tensors(layer, here)
        found.append(Said(_said(name, copied, _brought(sight, here)), copied))
    return found


def _tensors(layer: nn.Module, sight: Sight) -> Iterator[Tensor]:
    yield from kept(layer)
    yield from sight.largest
    for pair in sight.norms:
        yield from pair
    for measured in (sight.values, sight.found):
        yield from _measured(measured).values()


def _measured(moments: Any) -> dict[str, Tensor]:
    """The tensors of what a population measures, by their names."""
    named = {} if moments is None else vars(moments)
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _brought(sight: Sight, here: Mapping[int, Tensor]) -> Sight:
    def brought(moments: Any) -> Any:
        return moments and replace(moments, **{name: here[id(one)] for name, one in _measured(moments).items()})

    return replace(
        sight,
        largest=[here[id(one)] for one in sight.largest],
        norms=[(here[id(gap)], here[id(output)]) for gap, output in sight.norms],
        values=brought(sight.values),
        found=brought(sight.found),
    )


def _said(name: str, layer: Any, sight: Sight) -> LayerDiagnosis:
    tensors, found = [*layer.named_parameters(), *layer.named_buffers()], sight.found
    by_step = found is not None and isinstance(found.count, Tensor)
    look = Look(population_of(layer) if sight.is_compared else None, sight.values, sight.together)
    measured = of_steps(layer, found) if by_step else of_batch(layer, look, found)
    clipped_r, clipped_d, is_ramping = clipped(layer, found)
    finite_input, overflows = _input(layer, sight.largest)
    return LayerDiagnosis(
        name=name,
        kind=own_class(layer).__name__,
        reached=sight.reached or found is not None,
        finite_input=finite_input and not (by_step and not bool(found.mean.isfinite().all())),
        erases=sight.erases,
        overflows=overflows,
        not_finite=tuple(key for key, tensor in tensors if not _is_finite(tensor)),
        small_scales=_small_scales(layer),
        values=measured.values,
        gap=_gap(sight.norms),
        mean_shift=measured.shift,
        log_variance_ratio=measured.ratio,
        channels=measured.channels,
        dead=measured.dead,
        batches_seen=measured.seen,
        cold_start=measured.cold,
        updates_wanted=None if measured.seen is None else updates_wanted(layer),
        clipped_r=clipped_r,
        clipped_d=clipped_d,
        is_ramping=is_ramping,
    )


def _is_finite(tensor: Tensor) -> bool:
    # A sum is not finite if one of them is not; that of finite ones may overflow.
    return math.isfinite(tensor.sum()) or bool(tensor.isfinite().all())


def _input(layer: nn.Module, largest: Iterable[Tensor]) -> tuple[bool, bool]:
    """Whether all that came in is finite, and whether squares of what is are not: none has a larger one."""
    squares, overflows = not isinstance(layer, DynamicTanh | FrozenBatchNorm), False
    for one in largest:
        if not math.isfinite(one):
            return False, overflows
        overflows = overflows or (squares and not math.isfinite(one.to(statistics_dtype(one.dtype)).square()))
    return True, overflows


def _gap(norms: Iterable[tuple[Tensor, Tensor]]) -> float | None:
    """None where the batch showed none, or no output to compare it with."""
    squared_gap = squared_output = 0.0
    for gap, output in norms:
        squared_gap += _square(gap.item())
        squared_output += _square(output.item())
    return None if squared_output == 0.0 else math.sqrt(squared_gap / squared_output)


def _square(length: float) -> float:
    try:
        return length**2
    except OverflowError:
        return math.inf


def _small_scales(layer: nn.Module) -> tuple[int, ...]:
    scale = getattr(layer, "weight", None)
    if scale is None or scale.dim() != 1 or isinstance(layer, GlobalResponseNorm):
        # Global response norm scales what it adds to its input: 0 leaves that alone.
        return ()
    return where(scale.detach().abs() < _SMALL_SCALE)
