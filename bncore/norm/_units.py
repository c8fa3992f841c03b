"""The weights of one output unit, whatever the layer.

Shapes: a weight (O, I, ...) has O units along axis 0, one of a transposed convolution (I, O / groups, ...) has O /
groups units along axis 1 in each group of inputs.
"""

from torch import Tensor, nn

from bncore.norm._torch import AnyTransposedConv


def transposed_groups(module: nn.Module) -> int | None:
    """The groups of a transposed convolution; None for every other layer."""
    return module.groups if isinstance(module, AnyTransposedConv) else None


def by_unit(weight: Tensor, groups: int | None) -> tuple[Tensor, list[int]]:
    """The weight with an axis for its groups where it is transposed, and the axes of the weights of one unit."""
    if groups is None:
        return weight, list(range(1, weight.dim()))
    by_group = weight.unflatten(0, (groups, -1))
    return by_group, [axis for axis in range(1, by_group.dim()) if axis != 2]


def check_fan_in(weight: Tensor, groups: int | None) -> None:
    """Raise ValueError for units with one weight each, which would become 0 without its mean."""
    parts, axes = by_unit(weight, groups)
    if all(parts.shape[axis] == 1 for axis in axes):
        raise ValueError(f"units of a weight {tuple(weight.shape)} have one weight each, which would become 0")
