"""A network before it is built: a tree of layers that knows shapes, parameters and faults without torch."""

from bncore.spec.blueprint.lay import Laid, LayerPlan, lay
from bncore.spec.blueprint.layers import (
    Activation,
    ActivationName,
    Chain,
    Conv2d,
    Dropout,
    Flatten,
    GlobalPool,
    Linear,
    Norm,
    Pool,
    Primitive,
    Residual,
    Subsample,
    Weights,
    WithoutWeights,
)
from bncore.spec.blueprint.signal import Signal

__all__ = [
    "Activation",
    "ActivationName",
    "Chain",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Laid",
    "LayerPlan",
    "Linear",
    "Norm",
    "Pool",
    "Primitive",
    "Residual",
    "Signal",
    "Subsample",
    "Weights",
    "WithoutWeights",
    "lay",
]
