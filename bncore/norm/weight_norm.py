"""Weight normalization: the length and the direction of each unit's weights as parameters of their own.

Registration and state keys are torch's; the arithmetic is not, because its fused kernel takes the norm for a constant
in the second derivative.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._fold import fold, weight_of
from bncore.norm._old_names import OldNames
from bncore.norm._torch import TorchWeightNorm


def weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    """Replace `module.<name>` by `g * v / |v|` with learned lengths `g` and directions `v`; returns the module.

    `|v|` is the 2-norm over all axes but `dim`, so that on a weight (O, I, ...) `g` has shape (O, 1, ...): one number
    per output unit. Right after the call, the weight is what it was. In the state, `g` is
    `parametrizations.<name>.original0` and `v` is `original1`.

    Difference from `torch.nn.utils.parametrizations.weight_norm`: second derivatives are right (torch's are silently
    wrong in `v` where `dim` is the first or last axis), forward-mode differentiation works, `vmap` needs no fallback.
    Numbers and keys are the same, and state of the older `torch.nn.utils.weight_norm` (`weight_g`, `weight_v`) loads.
    As there, a unit whose weights are all 0 gives NaN, since 0 has no direction; the paper's
    data-dependent initialization (section 3) is left to the caller; and a parametrized module can be deep-copied, but
    pickled only after `remove_weight_norm`.

    arXiv 1602.07868, eq. 2.

    Args:
        module: the layer that holds the weight.
        name: the weight's name.
        dim: the axis of units: 0 for linear layers and convolutions, 1 for transposed ones without groups; None, or -1
            as in torch, for one length for the whole weight.

    Raises:
        ValueError: where `module` has no such weight, or it is parametrized already, or has no axis `dim`.
    """
    weight = weight_of(module, name)
    if parametrize.is_parametrized(module, name):
        raise ValueError(f"{name} of {type(module).__name__} is parametrized already; apply weight_norm first")
    if dim is not None and not -weight.dim() <= dim < weight.dim():
        raise ValueError(f"dim must be an axis of the weight {tuple(weight.shape)}, got {dim}")
    # `unsafe` as in torch: one weight becomes two parameters.
    parametrize.register_parametrization(module, name, _OfPrimitives(dim), unsafe=True)
    module.register_load_state_dict_pre_hook(OldNames(name, {"_g": "original0", "_v": "original1"}))
    return module


def remove_weight_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter again, with the value that it has now; returns the module."""
    return fold(module, name)


class _OfPrimitives(TorchWeightNorm):
    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        if weight_v.numel() == 0:
            # Units without weights have length 0, and 0 times the gradient of a quotient by 0 would be NaN.
            return weight_v * weight_g
        return weight_v * (weight_g / self._length(weight_v))

    def _length(self, weight_v: Tensor) -> Tensor:
        # torch writes -1 for "the whole weight", other negative numbers for axes from the end.
        whole = self.dim == -1
        axes = [axis for axis in range(weight_v.dim()) if whole or axis != self.dim % weight_v.dim()]
        if not axes:
            # Units of a vector are single numbers. To torch, no axes are all axes.
            return weight_v.abs()
        length: Tensor = torch.linalg.vector_norm(weight_v, dim=axes, keepdim=not whole)
        return length

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
