"""A parametrized weight made plain again.

torch's own `remove_parametrizations` breaks the layer that the given one was deep-copied from: both share the class
that holds the property, and it is taken from that class. It also runs a parametrization that changes in training once
more.
"""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._old_names import OldNames


def weight_of(module: nn.Module, name: str) -> Tensor:
    """`module.<name>`, which is about to be parametrized.

    Raises:
        ValueError: there is no tensor of this name.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
    return weight


def fold(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter with the value that it has in evaluation; the module itself is returned.

    Raises:
        ValueError: it is not parametrized.
    """
    if not parametrize.is_parametrized(module, name):
        raise ValueError(f"{name} of {type(module).__name__} is not parametrized")
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
    parametrizations = module.get_submodule(f"parametrizations.{name}").eval()
    for number, hook in list(module._forward_pre_hooks.items()):
        if getattr(hook, "__self__", None) in list(parametrizations.children()):
            del module._forward_pre_hooks[number]
    for number, hook in list(module._load_state_dict_pre_hooks.items()):
        names = getattr(hook, "hook", None)
        if isinstance(names, OldNames) and names.name == name:
            del module._load_state_dict_pre_hooks[number]
    parametrize.remove_parametrizations(module, name)
    return module
