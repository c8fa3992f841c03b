"""Layers that have all the attributes of a batch norm and evaluate by another formula.

torch folds a batch norm into the layer in front, or makes it one for several processes, by these attributes alone: it
asks neither for the class nor for what else the layer holds, and the result is wrong without a word.
"""

import sys
from typing import Any

import torch
from torch import nn

_TAKE_FOR_BATCH_NORM = frozenset(("fuse_conv_bn_eval", "fuse_linear_bn_eval", "convert_sync_batchnorm"))
"""Functions of torch, and of those who copied them, that read `running_var` of what they take for a batch norm."""


def _running_var(layer: Any) -> Any:
    if not torch.compiler.is_compiling():
        reader = sys._getframe(1).f_code.co_name
        if reader in _TAKE_FOR_BATCH_NORM:
            raise TypeError(
                f"{type(layer).__name__} does not evaluate as a plain batch norm does, and {reader} takes it for one"
            )
    return layer.__getattr__("running_var")


class OtherFormula(nn.Module):
    """A layer whose `running_var` everyone may read but such functions, which get a TypeError."""

    # No annotation as a property: to torch's classes it is an attribute.
    running_var: Any = property(_running_var)
