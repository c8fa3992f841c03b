"""What a new normalization layer takes over from the one that it replaces: parameters, statistics, settings.

Invariant: the old layer is only read.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._torch import AnyBatchNorm
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.global_response_norm import GlobalResponseNorm
from bncore.norm.instance_norm import InstanceNorm
from bncore.norm.model.found import attributes_of, averages_instances
from bncore.norm.model.overlay import own_class
from bncore.norm.rms_norm import RMSNorm

_SCALE_AND_SHIFT = ("weight", "bias")
_SETTINGS = ("eps", "momentum", "nan_guard", "track_running_stats", "process_group", "seed")


def carry_state(old: nn.Module, new: nn.Module, given: frozenset[str]) -> None:
    """Give `new` the parameters of `old` that it has as well, and its statistics and settings if they mean the same.

    Public attributes that are not the class's own, such as `qconfig`, go along where `new` has none of that name.
    Settings named in `given` are left as they are.

    Raises:
        ValueError: a parametrized parameter of `old` has no place in `new`, one is computed by a hook, or an instance
            norm has statistics and `new` none.
    """
    if averages_instances(old) and isinstance(new, InstanceNorm):
        raise ValueError(
            "it evaluates with running statistics, which are not kept then; batch_norm evaluates as it does, or set "
            "track_running_stats to False first"
        )
    requires_grad = any(parameter.requires_grad for parameter in old.parameters())
    if any(True for _ in old.parameters()):
        new.requires_grad_(requires_grad)
    _carry_parameters(old, new)
    if own_class(new) is BatchNorm and isinstance(old, AnyBatchNorm) and old.running_mean is None:
        for name in _statistics(new, all_of_them=True):
            setattr(new, name, None)
    if _carry_statistics(old, new) and not _is_other_formula(old, new):
        _carry_settings(old, new, given)
    _carry_what_others_hung_on_it(old, new)


def has_affine_part(layer: nn.Module) -> bool:
    """Whether a layer has a scale or a shift, learned or fixed."""
    return any(getattr(layer, name, None) is not None for name in _SCALE_AND_SHIFT)


def drop_what_it_lacks(old: nn.Module, new: nn.Module) -> None:
    """Leave `new` without scale or shift where `old` has only the other, and without fixed ones that `old` lacks."""
    if _is_other_formula(old, new):
        return
    for name in _SCALE_AND_SHIFT:
        # That RMS norm has no shift is its formula, and no choice that was made for this layer.
        by_formula = name == "bias" and isinstance(old, RMSNorm | nn.RMSNorm)
        if getattr(old, name, None) is None and not by_formula:
            if name in new._parameters and has_affine_part(old):
                new._parameters[name] = None
            elif name in new._buffers:
                new._buffers[name] = None


def _carry_parameters(old: nn.Module, new: nn.Module) -> None:
    if isinstance(new, nn.Identity) or _is_other_formula(old, new):
        return
    for name in _parametrized(old):
        if name not in new._parameters:
            raise ValueError(f"its {name} is parametrized, and there is no such parameter then")
        parametrize.transfer_parametrizations_and_params(old, new, name)
    alike = own_class(old) is own_class(new)
    for name in list(new._parameters) if alike else _SCALE_AND_SHIFT:
        _carry_parameter(old, new, name)
    for name in _SCALE_AND_SHIFT:
        # Fixed on one side, they are buffers there, and learned on the other.
        if name in new._buffers or name in old._buffers:
            _copy(getattr(old, name, None), getattr(new, name, None))


def _carry_parameter(old: nn.Module, new: nn.Module, name: str) -> None:
    """A tensor that somebody put in the place of a parameter stays what it is: no parameter, and in no state."""
    theirs, attribute, mine = old._parameters.get(name), vars(old).get(name), new._parameters.get(name)
    if theirs is not None and _shape(mine) == theirs.shape:
        new._parameters[name] = theirs
    if mine is None or not isinstance(attribute, Tensor):
        return
    source = next((other for other in old._parameters if other.startswith(f"{name}_")), None)
    if source is not None:
        raise ValueError(f"its {name} is computed from its {source} before each forward pass; make it plain first")
    delattr(new, name)
    setattr(new, name, attribute)


def _is_other_formula(old: nn.Module, new: nn.Module) -> bool:
    """Global response norm scales what it adds to its input: neither its scale nor its eps is like any other's."""
    return isinstance(old, GlobalResponseNorm) != isinstance(new, GlobalResponseNorm)


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def _parametrized(layer: nn.Module) -> list[str]:
    return list(layer.get_submodule("parametrizations")._modules) if parametrize.is_parametrized(layer) else []


def _carry_statistics(old: nn.Module, new: nn.Module) -> bool:
    """Whether both keep the same statistics, which `new` has then."""
    alike = own_class(old) is own_class(new)
    mine, theirs = _statistics(new, all_of_them=alike), _statistics(old, all_of_them=alike)
    if mine.keys() != theirs.keys():
        # A batch norm that keeps none means the same by its settings as one that does.
        return isinstance(old, AnyBatchNorm) and not theirs and "running_var" in mine
    if all(mine[name].shape == theirs[name].shape for name in mine):
        new._buffers.update(theirs)
        return True
    # One of them keeps statistics of several domains: as attributes, those of the chosen domain.
    chosen = {name: getattr(old, name) for name in theirs}
    if any(chosen[name].shape not in (mine[name].shape, mine[name].shape[1:]) for name in mine):
        return False
    for name, tensor in chosen.items():
        _copy(tensor, mine[name])
    return True


def _carry_settings(old: nn.Module, new: nn.Module, given: frozenset[str]) -> None:
    for name in _SETTINGS:
        if name in given or not hasattr(old, name) or not hasattr(new, name):
            continue
        value = getattr(old, name)
        if name == "eps" and value is None and not isinstance(new, RMSNorm | nn.RMSNorm):
            # The machine epsilon of an RMS norm's input, which is for others to choose.
            continue
        setattr(new, name, value)


def _carry_what_others_hung_on_it(old: nn.Module, new: nn.Module) -> None:
    own = attributes_of(old)
    for name, value in vars(old).items():
        if not name.startswith("_") and name not in own and not hasattr(new, name):
            setattr(new, name, value)


def _statistics(layer: nn.Module, *, all_of_them: bool) -> dict[str, Tensor]:
    """What evaluation uses, and how many batches are in it; with `all_of_them`, averages that only training uses.

    A window of single batches starts anew.
    """
    return {
        name: tensor
        for name, tensor in layer._buffers.items()
        if tensor is not None
        and (name.startswith("running_") or name == "num_batches_tracked")
        and (all_of_them or name != "running_product")
    }


def _copy(source: Tensor | None, target: Tensor | None) -> None:
    if source is not None and target is not None:
        with torch.no_grad():
            target.copy_(source)
