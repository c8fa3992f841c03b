"""Batches through a model that is only looked at: in evaluation mode, without gradients, and put back as it was."""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from bncore.norm.model.parts import modules_of

Forward = Callable[[nn.Module, Any], Any]
"""How a model is run on a batch."""


def run(model: nn.Module, batch: Any, forward: Forward | None) -> Any:
    """What `forward` returns; without it, `model(batch)`, of the first element where the batch is a tuple or list."""
    if forward is not None:
        return forward(model, batch)
    # Packed sequences are a tuple by accident.
    several = isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence)
    return model(batch[0] if several else batch)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it, every module is in evaluation mode and gradients are off; after it, modes are what they were.

    A compiled model runs as it is written: what was compiled for the same shapes before would not see the hooks by
    which layers are looked at.
    """
    with evaluation_mode(model), uncompiled(), torch.no_grad():
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within it, every module is in evaluation mode; after it, each is in the mode that it was in.

    The flags are set one by one: `eval()` may be overridden, and would then do more than can be undone.
    """
    modes = [(module, module.training) for module in modules_of(model)]
    try:
        _set_modes((module, False) for module, _ in modes)
        yield
    finally:
        _set_modes(modes)


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        if module.training is training:
            continue
        kind: Any = type(module)
        if _keeps_its_mode(kind) and "training" in vars(module):
            # torch looks first whether it is a parameter, a buffer or a module: ten times as long.
            vars(module)["training"] = training
        else:
            module.training = training


@functools.lru_cache(maxsize=256)
def _keeps_its_mode(cls: type[nn.Module]) -> bool:
    """Whether to set it is to keep it: a class may make more of it, or of every attribute."""
    return cls.__setattr__ is nn.Module.__setattr__ and not hasattr(cls, "training")


def uncompiled() -> AbstractContextManager[object]:
    """Within it, compiled models run as they are written."""
    # It would import the compiler, for seconds; where nobody has, nothing was compiled.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
