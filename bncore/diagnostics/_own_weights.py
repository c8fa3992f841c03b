"""Which matrices of weights are a module's own, and how many layers of them it has behind one another."""

import re
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from bncore.norm.model.found import has_batch_statistics, is_normalization


def is_norm(module: nn.Module) -> bool:
    """Whether it normalizes activations, in a recurrence or elsewhere."""
    return is_normalization(module) or has_batch_statistics(module)


def matrices_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the matrices that are the module's own."""
    if is_norm(module) or isinstance(module, parametrize.ParametrizationList | nn.ParameterList | nn.ParameterDict):
        return ()
    own = [name for name, value in module._parameters.items() if value is not None and value.dim() > 1]
    if parametrize.is_parametrized(module):
        chains: Any = module.parametrizations
        own += [name for name in chains if max((one.dim() for one in chains[name].parameters()), default=0) > 1]
    elif "weight_v" in own and "weight_g" in module._parameters:
        # The weight norm that torch had before parametrizations.
        own = [name for name in own if name not in ("weight_v", "weight_g")] + ["weight"]
    return tuple(own)


def layer_of(module: nn.Module, name: str) -> int:
    """Of a parameter of a module with several layers, which of them it is of."""
    if isinstance(module, nn.MultiheadAttention):
        return int("out_proj" in name)
    # torch's recurrent layers name matrices `weight_hh_l1`, those of `bncore.recurrent` `cells.1.weight_hh`.
    found = re.search(r"(?:_l|cells\.)(\d+)", name) if layers_of(module) > 1 else None
    return 0 if found is None else int(found[1])


def layers_of(module: nn.Module) -> int:
    """How many matrices lie behind one another in it; of one that only adds its matrix, none."""
    if getattr(module, "only_adds", False):
        return 0
    if isinstance(module, nn.MultiheadAttention):
        return 2
    found = getattr(module, "num_layers", 1)
    return found if isinstance(found, int) and found > 0 else 1
