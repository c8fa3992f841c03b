"""torch's transformer encoders, made to run the normalization layers that they hold.

In evaluation without gradients, `torch.nn.TransformerEncoderLayer` computes its output with one kernel that contains
layer norm, and takes no more from its `norm1` and `norm2` than eps, scale and shift: whatever they are, the numbers are
those of layer norm, without a word. `torch.nn.TransformerEncoder` nests padded batches for that kernel, as no layer
takes them. Each has a flag by which it goes its ordinary way.
"""

from torch import nn

from bncore.norm.layer_norm import LayerNorm
from bncore.norm.model.last_axis import normalizes_last_axis
from bncore.norm.model.overlay import own_class

_BEFORE = "_flag_with_layer_norm"


def run_what_they_hold(model: nn.Module) -> None:
    """Keep the encoders of `model` from their kernel while they hold other layers than it computes."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            fits = all(_is_layer_norm(getattr(module, name, None)) for name in ("norm1", "norm2"))
            _switch(module, "activation_relu_or_gelu", 0, ordinary=not fits)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            ordinary = any(_BEFORE in vars(layer) for layer in module.layers)
            _switch(module, "use_nested_tensor", False, ordinary=ordinary)


def _is_layer_norm(layer: nn.Module | None) -> bool:
    """Whether it is a layer norm that the kernel can take, which wants a scale and a shift."""
    if layer is None or own_class(layer) not in (nn.LayerNorm, LayerNorm) or not normalizes_last_axis(layer):
        return False
    return layer.weight is not None and layer.bias is not None


def _switch(module: nn.Module, flag: str, off: int | bool, *, ordinary: bool) -> None:
    held = vars(module)
    if ordinary and _BEFORE not in held:
        held[_BEFORE], held[flag] = held.get(flag, off), off
    elif not ordinary and _BEFORE in held:
        held[flag] = held.pop(_BEFORE)
