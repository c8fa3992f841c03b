"""Ghost batch norm (arXiv 1705.08741)."""

import torch
from torch import Tensor, nn

from bncore.norm.ghost_batch_norm import GhostBatchNorm
from tests.bncore.norm.case import Case, affine, batch_axes, batch_norm_evaluation, standardized


def groups_of(x: Tensor, size: int) -> list[list[int]]:
    """The fewest groups of at most `size` neighbours, none with a single value per channel, the larger ones first."""
    smallest = 1 if x[0, 0].numel() > 1 else 2
    count = next(count for count in range(1, len(x) + 1) if count * size >= len(x) or (count + 1) * smallest > len(x))
    sizes = [len(range(group, len(x), count)) for group in range(count)]
    return [list(range(sum(sizes[:group]), sum(sizes[: group + 1]))) for group in range(count)]


def _ghost(layer: nn.Module, x: Tensor) -> Tensor:
    rows = list(x)
    for group in groups_of(x, layer.virtual_batch_size):
        done = standardized(torch.stack([x[i] for i in group]), batch_axes(x), layer.eps)
        for place, i in enumerate(group):
            rows[i] = done[place]
    return affine(layer, torch.stack(rows))


def _statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    groups = [x[group] for group in groups_of(x, layer.virtual_batch_size)]
    mean, var = torch.zeros(4).double(), torch.zeros(4).double()
    # The paper's update of one group after the other, but each from the same start.
    for group in groups:
        mean += (0.9 * layer.running_mean + 0.1 * group.mean(batch_axes(x))) / len(groups)
        var += (0.9 * layer.running_var + 0.1 * group.var(batch_axes(x), correction=1)) / len(groups)
    return {"running_mean": mean, "running_var": var, "num_batches_tracked": layer.num_batches_tracked + 1}


CASES = [
    Case(
        # Groups of 2, but for the images: 2, 2 and 1.
        "ghost_batch_norm",
        lambda: GhostBatchNorm(4, virtual_batch_size=2),
        _ghost,
        batch_norm_evaluation,
        _statistics,
        loads_into_torch=True,
        permutes=False,
        ignores_scale=True,
    ),
]
