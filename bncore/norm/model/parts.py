"""The modules and buffers of a model, for those who go through them at every look.

Invariant: the modules are those that `eval()` reaches, each once, in the order of `named_modules`. torch's own walk
makes the name of each and is a generator for each: it takes several times as long.
"""

from torch import Tensor, nn


def modules_of(model: nn.Module) -> list[nn.Module]:
    """The model and all that is in it."""
    # By identity: a class may call two of its objects equal.
    found: dict[int, nn.Module] = {}
    ahead: list[nn.Module] = [model]
    while ahead:
        module = ahead.pop()
        if id(module) not in found:
            found[id(module)] = module
            ahead += [part for part in reversed(module._modules.values()) if part is not None]
    return [*found.values()]


def buffers_of(model: nn.Module) -> list[Tensor]:
    """All of them, each once."""
    found = {id(one): one for part in modules_of(model) for one in part._buffers.values() if one is not None}
    return [*found.values()]
