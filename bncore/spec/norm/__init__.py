"""Which normalization, with the literature's own parameter names.

Each member says by itself how many parameters it has and where it cannot work; `bncore.norm.build_norm` makes its
layer.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.norm.batch_renorm import BatchRenormSpec, LinearRamp
from bncore.spec.norm.batch_statistics import (
    BatchNormSpec,
    CrossIterationBatchNormSpec,
    DomainBatchNormSpec,
    FrozenBatchNormSpec,
    GhostBatchNormSpec,
    L1BatchNormSpec,
    LpBatchNormSpec,
    MaskedBatchNormSpec,
    NoisyBatchNormSpec,
    SyncBatchNormSpec,
)
from bncore.spec.norm.mixtures import (
    BatchInstanceNormSpec,
    EvoNormB0Spec,
    MovingAverageBatchNormSpec,
    PowerNormSpec,
    SwitchableNormSpec,
)
from bncore.spec.norm.place import BatchSize, NormModel, Place
from bncore.spec.norm.sample_statistics import (
    DynamicTanhSpec,
    EvoNormS0Spec,
    FilterResponseNormSpec,
    GlobalResponseNormSpec,
    GroupNormSpec,
    InstanceNormSpec,
    LayerNormSpec,
    RmsNormSpec,
)
from bncore.spec.norm.weights import (
    ScaledWeightStandardizationSpec,
    SpectralNormSpec,
    WeightNormSpec,
    WeightStandardizationSpec,
)
from bncore.spec.norm.whitening import DecorrelatedBatchNormSpec, IterNormSpec


class NoNorm(NormModel):
    """No normalization: the baseline of every comparison."""

    kind: Literal["none"] = "none"
    has_layer: ClassVar[bool] = False


NormSpec = Annotated[
    NoNorm
    | BatchNormSpec
    | BatchRenormSpec
    | GhostBatchNormSpec
    | SyncBatchNormSpec
    | FrozenBatchNormSpec
    | NoisyBatchNormSpec
    | LpBatchNormSpec
    | L1BatchNormSpec
    | DecorrelatedBatchNormSpec
    | IterNormSpec
    | DomainBatchNormSpec
    | CrossIterationBatchNormSpec
    | MovingAverageBatchNormSpec
    | PowerNormSpec
    | MaskedBatchNormSpec
    | LayerNormSpec
    | InstanceNormSpec
    | GroupNormSpec
    | RmsNormSpec
    | FilterResponseNormSpec
    | EvoNormB0Spec
    | EvoNormS0Spec
    | BatchInstanceNormSpec
    | SwitchableNormSpec
    | GlobalResponseNormSpec
    | DynamicTanhSpec
    | WeightNormSpec
    | SpectralNormSpec
    | WeightStandardizationSpec
    | ScaledWeightStandardizationSpec,
    Field(discriminator="kind"),
]

__all__ = [
    "BatchInstanceNormSpec",
    "BatchNormSpec",
    "BatchRenormSpec",
    "BatchSize",
    "CrossIterationBatchNormSpec",
    "DecorrelatedBatchNormSpec",
    "DomainBatchNormSpec",
    "DynamicTanhSpec",
    "EvoNormB0Spec",
    "EvoNormS0Spec",
    "FilterResponseNormSpec",
    "FrozenBatchNormSpec",
    "GhostBatchNormSpec",
    "GlobalResponseNormSpec",
    "GroupNormSpec",
    "InstanceNormSpec",
    "IterNormSpec",
    "L1BatchNormSpec",
    "LayerNormSpec",
    "LinearRamp",
    "LpBatchNormSpec",
    "MaskedBatchNormSpec",
    "MovingAverageBatchNormSpec",
    "NoNorm",
    "NoisyBatchNormSpec",
    "NormModel",
    "NormSpec",
    "Place",
    "PowerNormSpec",
    "RmsNormSpec",
    "ScaledWeightStandardizationSpec",
    "SpectralNormSpec",
    "SwitchableNormSpec",
    "SyncBatchNormSpec",
    "WeightNormSpec",
    "WeightStandardizationSpec",
]
