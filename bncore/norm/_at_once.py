"""The short way of a plain batch through a batch norm in training: the kernel, and what has to be asked before it.

A small network is made of little else than such questions, so that each function of Python is a part of its time; and
of a module, an attribute takes several times as long as what its dictionary holds.

Shapes: N examples, C channels (axis 1).
"""

from itertools import dropwhile
from typing import Any

import torch
from torch import Tensor

Held = dict[str, Any]
"""The dictionary of a layer."""
Vectors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Running mean, running variance, scale and shift, each (C,)."""
Kept = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
"""Running mean, running variance, the number of batches seen (), scale and shift."""
ONE = torch.ones((), dtype=torch.long, device="cpu")
"""Added to a count, a tensor costs half of what a number does, which becomes one each time."""
_READ = frozenset(
    ("training", "nan_guard", "momentum", "eps", "num_features", "track_running_stats", "__getattribute__")
)
"""Attributes that are read from the dictionary, where what a class makes of these names, or of all, is not seen."""
_REPLACED = frozenset(("forward", "_normalize_with_batch", "_kept_for"))
"""Methods of which the short way takes the place."""


def trains_at_once(kind: type, base: type) -> bool:
    """Whether objects of `kind`, a subclass of `base`, may go the short way.

    Each class says in `_is_at_once` whether what it makes of those methods gives what the short way does. Of two such
    classes at once, one would not be asked. Forward passes in front of the first may do what they like before they call
    it; between it and `base`, there may be none.
    """
    kinds = [vars(one) for one in kind.__mro__[: kind.__mro__.index(base)]]
    called = dropwhile(lambda one: not one.get("_is_at_once") and "_normalize_with_batch" not in one, kinds)
    return (
        all(one.get("_is_at_once") or not _REPLACED & one.keys() for one in called)
        and sum(bool(one.get("_is_at_once")) for one in kinds) <= 1
        and not any(_READ & vars(one).keys() for one in kind.__mro__[:-1])
    )


def kept_for(x: Tensor, held: Held) -> Kept | None:
    """What a layer holds, if the kernel takes all of it as it is beside `x`; the statistics may have any shape.

    None where one is None or of another type, where there is a shift without a scale, which no kernel takes, where
    scale or shift are a part of something larger, and where `x` is not a batch of several values per channel, or has
    not these channels.

    Raises:
        KeyError: where something lies elsewhere, as what is parametrized, or a number that was made a buffer.
    """
    shape, dtype = x.shape, x.dtype
    if len(shape) < 2 or shape[1] != held["num_features"] or x.numel() <= shape[1] or not held["track_running_stats"]:
        return None
    parameters, buffers = held["_parameters"], held["_buffers"]
    mean, var, count = buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"]
    weight, bias = parameters["weight"], parameters["bias"]
    if mean is None or mean.dtype is not dtype or var is None or var.dtype is not dtype or count is None:
        return None
    if weight is None:
        return (mean, var, count, None, None) if bias is None else None
    if weight.dtype is not dtype or not weight.is_contiguous():
        return None
    if bias is not None and (bias.dtype is not dtype or not bias.is_contiguous()):
        return None
    return mean, var, count, weight, bias
