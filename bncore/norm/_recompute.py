"""Forward passes that run a second time, inside the backward pass: activation checkpointing.

The second run must neither count its batch again nor see the running statistics that the first one left behind: it has
to give the same numbers as the first. A layer whose training output depends on running statistics therefore remembers
what it used, and recalls it by the batch that it was used for.
"""

import sys
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bncore.norm._dispatch import being_transformed
from bncore.norm._torch import checkpoint_that_repeats, checkpoints_at_first, graph_task, saves_elsewhere

_MOST = 64
"""Forward passes of one layer whose backward pass may still come: micro-batches in flight in a pipeline."""


@dataclass(frozen=True, eq=False)
class _Pass:
    """What a forward pass used or was told, and what may run it again."""

    batch_mean: Tensor
    kept: Any
    checkpoints: tuple[weakref.ref[Any], ...]


@dataclass
class _Remembered:
    """The forward passes of a layer, and how often each checkpoint has asked for one in the backward pass it is in."""

    passes: deque[_Pass] = field(default_factory=lambda: deque(maxlen=_MOST))
    asked: WeakKeyDictionary[Any, tuple[int, int]] = field(default_factory=WeakKeyDictionary)

    def turn(self, checkpoint: Any) -> int:
        """How often this checkpoint has asked before, in this backward pass."""
        if checkpoint is None:
            return 0
        task, times = self.asked.get(checkpoint, (None, 0))
        times = times if task == graph_task() else 0
        self.asked[checkpoint] = graph_task(), times + 1
        return times


_Passes = WeakKeyDictionary[nn.Module, _Remembered]
_used: _Passes = WeakKeyDictionary()
_told: _Passes = WeakKeyDictionary()


def recomputing() -> bool:
    """Whether this is a forward pass that a backward pass repeats.

    A hook of the backward pass may also run a forward pass, and that one is as new as any.
    """
    return (
        not torch.compiler.is_compiling()
        and graph_task() != -1
        and checkpoint_that_repeats(sys._getframe()) is not None
    )


def refuse_to_run_again() -> None:
    """For operators that the compiler cannot see into, whose values a second run would take from moved buffers.

    Raises:
        RuntimeError: this is a forward pass that a backward pass repeats.
    """
    if recomputing():
        raise RuntimeError(
            "a compiled layer whose training output depends on its buffers cannot be run again by activation "
            "checkpointing, for they have moved since; leave it out of the checkpointed part or of the compiled one"
        )


def may_run_again() -> bool:
    """Whether this forward pass is one that checkpointing may repeat.

    That is where gradients are off (checkpointing with `use_reentrant=True`) or saved tensors are intercepted (with
    False).
    """
    return not torch.is_grad_enabled() or saves_elsewhere()


def remember(layer: nn.Module, batch_mean: Tensor, *used: Tensor) -> None:
    """Keep what `layer` used for the batch with this mean (C,), if its forward pass may run again; all of one shape."""
    if torch.compiler.is_compiling() or being_transformed(batch_mean) or recomputing() or not may_run_again():
        return
    _keep(_used, layer, batch_mean, torch.stack(used).detach())


def recall(layer: nn.Module, batch_mean: Tensor) -> Tensor:
    """What `layer` used in the forward pass that this one repeats, stacked; nothing is read back from the device.

    That is one of the same checkpoint, where the checkpoint is known, and the one whose batch has the nearest mean; of
    batches with the same mean, the first that was not recalled yet. Of passes whose checkpoint is not known, the last
    one: training on one batch over and over repeats the newest.

    Raises:
        RuntimeError: nothing was remembered: the first run was not seen as one that may run again.
    """
    remembered = [one for one in _in_order(_used, layer) if one.batch_mean.shape == batch_mean.shape]
    if not remembered:
        raise RuntimeError("a forward pass runs in the backward pass of a function and does not repeat an earlier one")
    nearest = _nearest([one.batch_mean for one in remembered], batch_mean.detach())
    used = torch.stack([one.kept for one in remembered]).index_select(0, nearest.view(1)).squeeze(0)
    _keep_for_those_within(_used, layer, batch_mean, used)
    return used


def told_at_first(layer: nn.Module, batch_mean: Tensor, told: Any) -> Any:
    """What `layer` was told in the first run of a forward pass that runs again; of any other, `told`, and it is kept.

    For what is no tensor; which of the remembered batches it was is read back from the device, in the second run only.
    None for a batch that nothing was kept of.
    """
    if recomputing():
        remembered = list(_in_order(_told, layer))
        return (
            remembered[int(_nearest([one.batch_mean for one in remembered], batch_mean))].kept if remembered else None
        )
    if may_run_again():
        _keep(_told, layer, batch_mean, told)
    return told


def _keep(passes: _Passes, layer: nn.Module, batch_mean: Tensor, kept: Any) -> None:
    checkpoints = tuple(weakref.ref(one) for one in checkpoints_at_first(sys._getframe()))
    passes.setdefault(layer, _Remembered()).passes.append(_Pass(batch_mean.detach(), kept, checkpoints))


def _keep_for_those_within(passes: _Passes, layer: nn.Module, batch_mean: Tensor, kept: Any) -> None:
    """The same in a pass that runs again: what it is the first run of are checkpoints within the one that repeats."""
    if checkpoints_at_first(sys._getframe()):
        _keep(passes, layer, batch_mean, kept)


def _in_order(passes: _Passes, layer: nn.Module) -> list[_Pass]:
    """What is remembered of `layer`, what it is first: of the checkpoint that is running again, then the newest."""
    if layer not in passes:
        return []
    remembered, checkpoint = passes[layer], checkpoint_that_repeats(sys._getframe())
    same = [one for one in remembered.passes if any(known() is checkpoint for known in one.checkpoints)]
    others = [one for one in reversed(remembered.passes) if one not in same]
    turn = remembered.turn(checkpoint) % max(len(same), 1)
    return same[turn:] + same[:turn] + others


def _nearest(means: list[Tensor], batch_mean: Tensor) -> Tensor:
    """The index of the mean that is nearest to `batch_mean`, the first one of equals."""
    table = torch.stack(means)
    # A batch that was not finite is near to itself alone: `argmin` takes NaN for the least.
    same = (table == batch_mean) | (table.isnan() & batch_mean.isnan())
    gaps = torch.where(same, 0.0, (table - batch_mean).square().nan_to_num(nan=torch.inf, posinf=torch.inf))
    return gaps.sum(tuple(range(1, table.dim()))).argmin()
