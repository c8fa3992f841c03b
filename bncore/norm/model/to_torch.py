"""The way back to torch's own layers, for what knows no others: fusion, quantization, exporters, other programs.

Invariant: every layer that is replaced evaluates as before, and a model is changed as a whole or not at all.
"""

import copy as copying
from collections.abc import Callable
from typing import Any

from torch import nn

from bncore.norm.batch_norm import BatchNorm
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.group_norm import GroupNorm
from bncore.norm.instance_norm import InstanceNorm
from bncore.norm.layer_norm import LayerNorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.model.carry import carry_state
from bncore.norm.model.convert import channels_of, class_that_computes, place_of
from bncore.norm.model.feed import Forward, evaluating, run
from bncore.norm.model.found import normalizations, path
from bncore.norm.model.last_axis import normalizes_last_axis
from bncore.norm.model.overlay import own_class
from bncore.norm.model.positions import positions_of, takes_examples
from bncore.norm.model.replace import replace_layers
from bncore.norm.rms_norm import RMSNorm

_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def to_torch(
    model: nn.Module,
    batch: Any = None,
    *,
    forward: Forward | None = None,
    where: Callable[[str, nn.Module], bool] | None = None,
    copy: bool = False,
) -> nn.Module:
    """Replace the normalization layers of this library in `model` by layers of `torch.nn` that evaluate alike.

    Layers whose evaluation is plain batch norm by running statistics become `torch.nn.BatchNorm1d/2d/3d`: batch norm,
    renorm, ghost, sync, noisy, l_p, L1, cross-iteration, domain batch norm with its chosen domain, and
    `FrozenBatchNorm`. `InstanceNorm` and `GroupNorm` become those of torch, `LayerNorm` `torch.nn.GroupNorm(1, C)`, and
    layer and RMS norms along the last axis `torch.nn.LayerNorm` and `RMSNorm`. Evaluation changes by rounding at most.
    What a variant does in training, its guard included, is gone; the frozen layer's parameters do not require
    gradients, but its statistics move in training mode.

    torch's classes are for so many axes. Where a layer replaced one of them, their number is known; otherwise `batch`
    is run through the model in evaluation mode to see it. Parameters and statistics are the same objects as before,
    hooks and their handles, attributes of others, paths, modes and shared layers stay, as in `convert`. Layers of torch
    stay as they are.

    Args:
        model: any module; it is changed in place and returned; where it is a layer itself, the new one is returned.
        batch: what `forward` takes; without it, the input, or a tuple or list that begins with it.
        forward: how to run the model on a batch, `forward(model, batch)`.
        where: called with the path and the layer; only layers for which it is true are replaced.
        copy: leave `model` alone, and return a changed deep copy.

    Raises:
        ValueError: with the path of a layer that torch has no like of, whose number of axes is not known, or that is
            lazy, frozen, being adapted or of a class that changes what it does. Nothing is changed then.
    """
    if copy:
        model = copying.deepcopy(model)
    layers = [(name, one) for name, one in normalizations(model) if where is None or where(name, one)]
    ranks = {} if batch is None else _ranks([layer for _, layer in layers], model, batch, forward)
    replacements: dict[nn.Module, nn.Module] = {}
    for name, layer in layers:
        base = class_that_computes(path(name, layer), layer)
        if not base.__module__.startswith("torch."):
            try:
                replacements[layer] = _replacement(layer, base, ranks.get(layer), model)
            except ValueError as error:
                raise ValueError(f"{path(name, layer)}, a {base.__name__}, has no like in torch: {error}") from None
    return replace_layers(model, replacements)


def _ranks(layers: list[nn.Module], model: nn.Module, batch: Any, forward: Forward | None) -> dict[nn.Module, int]:
    """How many axes the input of each layer has."""
    found: dict[nn.Module, int] = {}

    def see(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = next(iter((*args, *kwargs.values())))
        if found.setdefault(layer, given.dim()) != given.dim():
            raise ValueError(
                f"a {own_class(layer).__name__} is given input of {found[layer]} and of {given.dim()} axes"
            )

    handles = [layer.register_forward_pre_hook(see, with_kwargs=True) for layer in layers]
    try:
        with evaluating(model):
            run(model, batch, forward)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _replacement(layer: Any, base: type[nn.Module], rank: int | None, model: nn.Module) -> nn.Module:
    device, dtype = place_of(layer, model)
    new = _built(layer, base, rank).to(device=device, dtype=dtype)
    carry_state(layer, new, frozenset())
    for name in new._parameters:
        if getattr(layer, name) is None:
            new._parameters[name] = None
    if base is FrozenBatchNorm:
        new.requires_grad_(False)
    return new.train(layer.training)


def _built(layer: Any, base: Any, rank: int | None) -> nn.Module:
    """A new layer of torch that evaluates as `layer` does, once it has its numbers."""
    channels = channels_of(layer)
    affine = any(getattr(layer, name, None) is not None for name in ("weight", "bias"))
    if normalizes_last_axis(layer):
        if base not in (LayerNorm, RMSNorm):
            raise ValueError("its channels are the last axis")
        return (
            nn.LayerNorm(channels, layer.eps, affine) if base is LayerNorm else nn.RMSNorm(channels, layer.eps, affine)
        )
    if base in (GroupNorm, LayerNorm):
        if takes_examples(layer) and rank != (positions_of(layer) or 0) + 2:
            raise ValueError("it takes single examples; give a batch to show that there are none")
        return nn.GroupNorm(layer.num_groups if base is GroupNorm else 1, channels, layer.eps, affine)
    if base is RMSNorm and rank == 2:
        return nn.RMSNorm(channels, layer.eps, affine)
    if base is InstanceNorm:
        return _INSTANCE_NORMS[_positions(layer, rank)](channels, layer.eps, affine=affine)
    if not _evaluates_as_batch_norm(layer, base):
        raise ValueError("its evaluation is another formula")
    tracks = layer.running_mean is not None
    return _BATCH_NORMS[_positions(layer, rank)](channels, layer.eps, affine=affine, track_running_stats=tracks)


def _positions(layer: nn.Module, rank: int | None) -> int:
    """The number in the name of torch's class."""
    known = positions_of(layer)
    if known is None and rank is not None:
        known = max(rank - 2, 1)
    if known is None:
        raise ValueError("torch has one for each number of axes; give a batch that reaches it")
    if known not in _BATCH_NORMS:
        raise ValueError(f"torch has none for {known} axes of positions")
    return known


def _evaluates_as_batch_norm(layer: Any, base: Any) -> bool:
    if base is FrozenBatchNorm:
        return True
    # The mask is a part of the formula: padding is 0.
    if not issubclass(base, BatchNorm) or issubclass(base, MaskedBatchNorm):
        return False
    if layer.running_mean is None:
        return bool(base._normalize_with_batch is BatchNorm._normalize_with_batch)
    return bool(base._normalize_with_running is BatchNorm._normalize_with_running)
