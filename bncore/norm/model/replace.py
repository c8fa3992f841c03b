"""New layers in the places of old ones, in all the places where a model holds these.

Invariant: paths, the order of siblings, shared modules and the handles of hooks stay good.
"""

import weakref
from collections.abc import Mapping
from itertools import pairwise

from torch import nn

from bncore.norm._slopes import Linear
from bncore.norm._torch import HookWithModule
from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from bncore.norm.model.encoder import run_what_they_hold

_HOOKS = (
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_load_state_dict_post_hooks",
    "_load_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
)


def replace_layers(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The model with new layers for old ones, in place; or the new layer, where the model is the old one."""
    for layer, new in replacements.items():
        _hand_over_hooks(layer, new)
    for parent in list(model.modules()):
        _replace_children(parent, replacements)
    run_what_they_hold(model)
    return replacements.get(model, model)


def _hand_over_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give `new` the hooks of `old`, in the very dictionaries that their handles remove them from."""
    for name in _HOOKS:
        theirs, own = getattr(old, name), getattr(new, name)
        theirs.update(own)
        setattr(new, name, theirs)
        for hook in theirs.values():
            # A hook that wants its module holds it.
            if isinstance(hook, HookWithModule) and hook.with_module and hook.module() is old:
                hook.module = weakref.ref(new)
    new._is_full_backward_hook = old._is_full_backward_hook


def _replace_children(parent: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    for number, hook in list(parent._forward_pre_hooks.items()):
        # By which a layer that is replaced looked at its neighbour.
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, nn.Module) and owner in replacements:
            del parent._forward_pre_hooks[number]
            parent._forward_pre_hooks_with_kwargs.pop(number, None)
    for name, child in parent._modules.items():
        if child in replacements:
            parent._modules[name] = replacements[child]  # type: ignore[index]
    if isinstance(parent, nn.Sequential):
        new = set(replacements.values())
        for before, layer in pairwise(parent):
            if layer in new and isinstance(layer, CrossIterationBatchNorm) and isinstance(before, Linear):
                layer.follow(before)
