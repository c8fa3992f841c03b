"""What the processes of a group tell each other: collectives that can be differentiated, to any order.

Every process of the group has to come to each of them, in the same order. The objective that is differentiated is the
sum over all processes of what each computes, as in data-parallel training.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any
"""A `torch.distributed.ProcessGroup`, a type that builds of torch without distribution lack; None: all processes."""


def group_size(group: Group) -> int:
    """How many processes share a batch with this one: 1 without distribution, and for one outside of the group."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    size: int = dist.get_world_size(group)
    return max(1, size)


def gather(local: Tensor, group: Group) -> Tensor:
    """The tensors of all processes, stacked along a new first axis."""
    rows = local.new_empty(dist.get_world_size(group), *local.shape)
    dist.all_gather(list(rows.unbind()), local.contiguous(), group=group)
    return rows


def add_up(local: Tensor, group: Group) -> Tensor:
    """The sum of the tensors of all processes."""
    total = local.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def differentiable_gather(local: Tensor, group: Group) -> Tensor:
    """`gather`, for autograd, forward mode and `torch.func` transforms."""
    rows: Tensor = _Gather.apply(local, group)
    return rows


class _Gather(torch.autograd.Function):
    """The gradient of a row is the sum of what all processes make of it, and goes to the process it came from."""

    @staticmethod
    def forward(local: Tensor, group: Group) -> Tensor:
        return gather(local, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _AddUp.apply(grads[0], ctx.group)[dist.get_rank(ctx.group)], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return differentiable_gather(tangents[0], ctx.group)

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int, None], local: Tensor, group: Group) -> tuple[Tensor, int]:
        return differentiable_gather(local.movedim(in_dims[0], 0), group), 1


class _AddUp(torch.autograd.Function):
    """Its own derivative: each process's output depends alike on every process's input."""

    @staticmethod
    def forward(local: Tensor, group: Group) -> Tensor:
        return add_up(local, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _AddUp.apply(grads[0], ctx.group), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Any:
        return _AddUp.apply(tangents[0], ctx.group)

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int, None], local: Tensor, group: Group) -> tuple[Any, int]:
        return _AddUp.apply(local.movedim(in_dims[0], 0), group), 0
