"""A network before it is built: a tree of layers that knows shapes, parameters and faults without torch."""

from bncore.spec.blueprint.depth import Passed, depths, has_matrix, passed
from bncore.spec.blueprint.lay import Laid, LayerPlan, in_head, lay
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
from bncore.spec.blueprint.recurrent import Recurrent
from bncore.spec.blueprint.sequences import (
    Attention,
    Embedding,
    FirstToken,
    OverTime,
    Patches,
    Positions,
    SequencePrimitive,
)
from bncore.spec.blueprint.signal import Signal

__all__ = [
    "Activation",
    "ActivationName",
    "Attention",
    "Chain",
    "Conv2d",
    "Dropout",
    "Embedding",
    "FirstToken",
    "Flatten",
    "GlobalPool",
    "Laid",
    "LayerPlan",
    "Linear",
    "Norm",
    "OverTime",
    "Passed",
    "Patches",
    "Pool",
    "Positions",
    "Primitive",
    "Recurrent",
    "Residual",
    "SequencePrimitive",
    "Signal",
    "Subsample",
    "Weights",
    "WithoutWeights",
    "depths",
    "has_matrix",
    "in_head",
    "lay",
    "passed",
]
