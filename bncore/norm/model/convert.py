"""Any normalization of a model into any other, in place.

Invariant: a model is either converted as a whole or, where one layer cannot be, not touched at all. So all new layers
are made first, and take the places of the old ones when nothing can fail any more.
"""

import copy as copying
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bncore.norm.build import build_norm, norm_spec
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.model.carry import carry_state, drop_what_it_lacks, has_affine_part
from bncore.norm.model.found import check_not_lazy, layer_classes, normalizations, path
from bncore.norm.model.last_axis import by_last_axis, knows_padding, normalizes_last_axis
from bncore.norm.model.overlay import Temporary, own_class
from bncore.norm.model.positions import remember_positions, takes_examples
from bncore.norm.model.replace import replace_layers
from bncore.seeds import derive_seed
from bncore.spec.norm import BatchNormSpec, NoNorm, NormSpec, Place

_HARMLESS = ("__init__", "extra_repr", "reset_parameters", "reset_running_stats")
"""Methods that a class may add without changing what its layers compute."""

_ERASES = ("one_value_per_instance", "one_value_per_group")
"""Reasons why a normalization would erase what has a single position."""

_Where = Callable[[str, nn.Module], bool]


def convert(
    model: nn.Module, spec: NormSpec | Mapping[str, Any], *, where: _Where | None = None, copy: bool = False
) -> nn.Module:
    """Replace the normalization layers of `model`, torch's and ours, by the one that `spec` describes.

    A new layer stands where the old one stood: same path, same order among its siblings, once for a module that is
    shared, with its hooks (their handles stay good), device, dtype and mode. The model is changed in place and
    returned; where it is a normalization layer itself, the new layer is returned.

    State: a parameter that both layers have is the same `nn.Parameter` object in the new one, so an optimizer that
    holds it still does, `requires_grad` and parametrizations included. Running statistics move over as the same tensors
    between layers that keep the same ones. What the new layer has and the old one had not starts as in a new layer, and
    what only the old one had is gone. `FrozenBatchNorm` has buffers for parameters: there the numbers move. Scale and
    shift of `GlobalResponseNorm` mean something else than those of all others, and do not move.

    Settings: what `spec` leaves out is taken from the layer where it means the same: `affine`, scale and shift each by
    itself, and between layers that
    keep the same statistics, or none, also `eps`, `momentum`, `nan_guard` and `track_running_stats`. So a conversion
    within the batch norm family changes no number of the evaluation, and the way back restores every number and
    setting: name `momentum` to get a variant's own default, as 0.01 of batch renorm. A layer that is already as `spec`
    asks stays.

    What others hung on the old layer goes along: hooks, and public attributes that are not its class's own, such as
    `qconfig` or a flag, where the new layer has none of that name. Modules, parameters and buffers that were added to
    it do not, nor what replaces one of its methods or begins with an underscore.

    `torch.nn.LayerNorm` and `RMSNorm` over the last axis: it holds the channels there, whatever the rank, and the new
    layer goes on to normalize along it, with every other axis as examples: (N, L, C) is seen as (N L, C). Such a layer
    is recognized and converted further as such. Over several axes there are no channels to be told, and it is refused.
    `MaskedBatchNorm` takes a mask (N, L) there; `valid_positions` hands it to the layers of a padded model.
    What replaces `torch.nn.InstanceNorm*` takes one example (C, ...) where that did, and so does what replaces it in
    turn. One that keeps running statistics evaluates with them: it becomes a batch norm with the same evaluation, and
    no instance norm.

    `torch.nn.TransformerEncoderLayer` evaluates with a kernel that computes layer norm whatever it holds; it is kept
    from that until it holds layer norms again.

    `StepBatchNorm` in recurrent layers, which is a part of their cells, is left alone.

    The other way is not safe: `torch.nn.SyncBatchNorm.convert_sync_batchnorm` takes each variant for a plain batch norm
    and drops what it does, but for those that evaluate by another formula, which refuse; use
    `{"kind": "sync_batch_norm"}` here.

    Args:
        model: any module.
        spec: a member of `NormSpec`, or the dict of one. `{"kind": "none"}` removes the layers.
        where: called with the path and the layer; only layers for which it is true are converted. A shared layer is
            asked for once, by its first path.
        copy: leave `model` alone, and return a converted deep copy.

    Raises:
        ValueError: for a dict that is no spec, a spec that normalizes weights, and, with the path of the layer, where a
            layer cannot become what is asked: groups that do not divide its channels, a class, or a layer by itself,
            that overrides the forward pass of a normalization layer, a lazy layer, one that is frozen or being adapted,
            a parametrized parameter that the new layer has not, one that a hook computes, as of `torch.nn.utils.prune`.
            Nothing is changed then.
    """
    wanted = _validated(spec)
    if copy:
        model = copying.deepcopy(model)
    replacements: dict[nn.Module, nn.Module] = {}
    for name, layer in normalizations(model):
        if where is None or where(name, layer):
            new = _replacement(path(name, layer), layer, wanted, model)
            if new is not layer:
                replacements[layer] = new
    return replace_layers(model, replacements)


def _validated(spec: NormSpec | Mapping[str, Any]) -> NormSpec:
    wanted = norm_spec(spec)
    if not wanted.has_layer and not isinstance(wanted, NoNorm):
        raise ValueError(f"{wanted.kind} normalizes the weights of a layer, which no other layer can be replaced by")
    return wanted


def _replacement(where: str, layer: nn.Module, spec: NormSpec, model: nn.Module) -> nn.Module:
    """The new layer with all of the old one's state, or the old one where it is as asked."""
    base = class_that_computes(where, layer)
    try:
        # Layers with equal seeds would draw equal noise.
        seed = derive_seed(0, "norm", where)
        new = _built(layer, spec, seed, *place_of(layer, model))
        carry_state(layer, new, frozenset(spec.model_fields_set))
    except ValueError as error:
        raise ValueError(f"{where} cannot become {spec.kind}: {error}") from None
    if base is own_class(new) and _settings(new) == _settings(layer):
        return layer
    return new.train(layer.training)


def class_that_computes(where: str, layer: nn.Module) -> type[nn.Module]:
    """The class of torch or of ours that says what `layer` does.

    A class derived from it that has methods of its own may do anything, such as an activation at the end; the new layer
    would drop it.

    Raises:
        ValueError: for such a class, and for a layer that nothing may be done to now.
    """
    if isinstance(layer, Temporary):
        raise ValueError(f"{where} is frozen or being adapted; unfreeze or reset it first")
    check_not_lazy(where, layer)
    if "forward" in vars(layer):
        raise ValueError(f"{where}: its forward pass was replaced on the object, and would be lost; exclude it")
    for cls in own_class(layer).__mro__:
        if cls in layer_classes():
            return cls
        if any(callable(value) and name not in _HARMLESS for name, value in vars(cls).items()):
            break
    raise ValueError(f"{where}: {own_class(layer).__name__} changes what the layer it derives from does; exclude it")


def channels_of(layer: Any) -> int:
    """How many channels a normalization layer has.

    Raises:
        ValueError: a layer norm over several axes has none.
    """
    if not isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return int(layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features)
    if len(layer.normalized_shape) != 1:
        raise ValueError(f"over the axes of {tuple(layer.normalized_shape)}, it has no channels")
    return int(layer.normalized_shape[0])


def place_of(layer: nn.Module, model: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and type of a layer's numbers; of the model's where it has none."""
    for module in (layer, model):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return None, None


def _built(
    layer: nn.Module, spec: NormSpec, seed: int, device: torch.device | None, dtype: torch.dtype | None
) -> nn.Module:
    """A new layer of `spec`, with a scale and a shift to learn where `layer` has them, unless the spec says."""
    channels = channels_of(layer)
    fields = type(spec).model_fields
    implied = "affine" in fields and fields["affine"].annotation is bool and "affine" not in spec.model_fields_set
    if implied:
        spec = spec.model_copy(update={"affine": has_affine_part(layer)})
    if normalizes_last_axis(layer):
        place = Place("on the last axis", channels, 1, 2, "identity", "before_activation")
        for fault in spec.faults(place):
            if fault.code in _ERASES:
                raise ValueError(f"there is one position along the last axis. {fault.detail}")
    new = build_norm(spec, channels, seed, device, dtype)
    if new is None:
        return nn.Identity()
    if implied or isinstance(new, FrozenBatchNorm):
        drop_what_it_lacks(layer, new)
    if normalizes_last_axis(layer):
        # Layer norm need not know of padding, and what comes in its place may have to.
        padded = knows_padding(layer) or spec.counts_padding or isinstance(spec, BatchNormSpec)
        return by_last_axis(new, padded=padded)
    return remember_positions(layer, new)


def _settings(layer: nn.Module) -> tuple[object, ...]:
    """What tells two layers of one class apart besides their numbers."""
    public = {name: value for name, value in vars(layer).items() if not name.startswith("_") and name != "training"}
    parameters = [(name, parameter.shape) for name, parameter in layer.named_parameters()]
    # Not all buffers: a layer that follows another one has more of them than a new one.
    statistics = [name for name in layer._buffers if name.startswith("running_") and layer._buffers[name] is not None]
    return public, parameters, statistics, normalizes_last_axis(layer), takes_examples(layer)
