"""Forward passes that run a second time, inside the backward pass: activation checkpointing.

The second run must neither count its batch again nor see the running statistics that the first one left behind: it has
to give the same numbers as the first. A layer whose training output depends on running statistics therefore remembers
what it used, and recalls it by the batch that it was used for.
"""

import sys
from collections import deque
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bncore.norm._dispatch import being_transformed
from bncore.norm._torch import BACKWARDS, ENGINE, UNPACKS, graph_task, saves_elsewhere

_MOST = 64
"""Forward passes of one layer whose backward pass may still come: micro-batches in flight in a pipeline."""

_used: WeakKeyDictionary[nn.Module, deque[tuple[Tensor, Tensor]]] = WeakKeyDictionary()
_told: WeakKeyDictionary[nn.Module, deque[tuple[Tensor, Any]]] = WeakKeyDictionary()


def recomputing() -> bool:
    """Whether this is a forward pass that a backward pass repeats.

    A hook of the backward pass may also run a forward pass, and that one is as new as any.
    """
    return not torch.compiler.is_compiling() and graph_task() != -1 and _called_to_repeat()


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
    _used.setdefault(layer, deque(maxlen=_MOST)).append((batch_mean.detach(), torch.stack(used).detach()))


def recall(layer: nn.Module, batch_mean: Tensor) -> Tensor:
    """What `layer` used for the remembered batch whose mean is nearest, stacked; nothing is read back from the device.

    Of batches with the same mean, the last one: training on one batch over and over repeats the newest forward pass.

    Raises:
        RuntimeError: nothing was remembered: the first run was not seen as one that may run again.
    """
    # The last one comes first.
    remembered = [pair for pair in reversed(_used.get(layer, deque())) if pair[0].shape == batch_mean.shape]
    if not remembered:
        raise RuntimeError("a forward pass runs in the backward pass of a function and does not repeat an earlier one")
    nearest = _nearest([mean for mean, _ in remembered], batch_mean.detach())
    return torch.stack([used for _, used in remembered]).index_select(0, nearest.view(1)).squeeze(0)


def told_at_first(layer: nn.Module, batch_mean: Tensor, told: Any) -> Any:
    """What `layer` was told in the first run of a forward pass that runs again; of any other, `told`, and it is kept.

    For what is no tensor; which of the remembered batches it was is read back from the device, in the second run only.
    None for a batch that nothing was kept of.
    """
    if recomputing():
        remembered = list(reversed(_told.get(layer, ())))
        return remembered[int(_nearest([mean for mean, _ in remembered], batch_mean))][1] if remembered else None
    if may_run_again():
        _told.setdefault(layer, deque(maxlen=_MOST)).append((batch_mean, told))
    return told


def _nearest(means: list[Tensor], batch_mean: Tensor) -> Tensor:
    """The index of the mean that is nearest to `batch_mean`, the first one of equals."""
    table = torch.stack(means)
    # A batch that was not finite is near to itself alone: `argmin` takes NaN for the least.
    same = (table == batch_mean) | (table.isnan() & batch_mean.isnan())
    gaps = torch.where(same, 0.0, (table - batch_mean).square().nan_to_num(nan=torch.inf, posinf=torch.inf))
    return gaps.sum(tuple(range(1, table.dim()))).argmin()


def _called_to_repeat() -> bool:
    """Whether the engine of the backward pass, which is running, has come here by a function or by saved tensors.

    It calls Python for the backward pass of a function (checkpointing with `use_reentrant=True`, and what others write
    like it), for tensors that were saved as something else (with False), and for hooks. Nothing but the stack tells
    which.
    """
    caller: FrameType | None = sys._getframe()
    while caller is not None:
        code, module = caller.f_code, caller.f_globals.get("__name__")
        if code in BACKWARDS or (module, code.co_name) == UNPACKS:
            return True
        if module == ENGINE:
            return False
        caller = caller.f_back
    return False
