"""Which parameters weight decay should leave alone.

Decay pulls the weights of a layer with normalization behind it to nothing but a larger learning rate, and the scale and
shift of the normalization away from what they learn.
"""

from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from bncore.norm._torch import TorchWeightNorm
from bncore.norm.model.found import is_normalization

_PACKAGE = "bncore."


def no_decay_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of `model` that weight decay should leave alone, each once, in the order of the model.

    These are all parameters of normalization layers, torch's and ours (scale, shift, gates, thresholds, ...); all
    biases: every parameter with the word `bias` in its name, such as `bias`, `bias_hh_l0`, `in_proj_bias`, also behind
    a parametrization; and of the layers and weight parametrizations of this library, scales: vectors and single
    numbers, and the lengths that weight normalization learns. A parameter that is shared is left alone if it is in one
    of its places.
    """
    chosen: set[nn.Parameter] = set()
    for module in model.modules():
        if is_normalization(module):
            chosen.update(module.parameters())
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if "bias" in name.split("_") or _is_scale(module, name, parameter):
                chosen.add(parameter)
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleDict) and name == "parametrizations" and "bias" in child:
                chosen.update(child["bias"].parameters())
    return [parameter for parameter in model.parameters() if parameter in chosen]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """All parameters of `model` in two groups for an optimizer of `torch.optim`: with weight decay, and without.

    `torch.optim.SGD(parameter_groups(model, 1e-4), lr=0.1)`. The second group is `no_decay_parameters(model)`. Both are
    always there, in this order, so that the optimizer's state has one form; each parameter is in one of them, once,
    whether it requires a gradient or not.
    """
    spared = no_decay_parameters(model)
    without = set(spared)
    decayed = [parameter for parameter in model.parameters() if parameter not in without]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def _is_scale(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(module, ParametrizationList):
        return name == "original0" and isinstance(module[0], TorchWeightNorm)
    return type(module).__module__.startswith(_PACKAGE) and parameter.dim() <= 1
