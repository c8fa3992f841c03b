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
from bncore.spec.norm.noise import NoiseNormSpec
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
from bncore.spec.usual import usual


class NoNorm(NormModel):
    """No normalization: the baseline of every comparison."""

    kind: Literal["none"] = "none"
    has_layer: ClassVar[bool] = False


BatchStatisticsNorm = (
    BatchNormSpec
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
    | MaskedBatchNormSpec
)
OtherStatisticsNorm = (
    MovingAverageBatchNormSpec
    | PowerNormSpec
    | BatchInstanceNormSpec
    | SwitchableNormSpec
    | EvoNormB0Spec
    | LayerNormSpec
    | InstanceNormSpec
    | GroupNormSpec
    | RmsNormSpec
    | FilterResponseNormSpec
    | EvoNormS0Spec
    | GlobalResponseNormSpec
    | DynamicTanhSpec
    | NoiseNormSpec
)
WeightNormalization = WeightNormSpec | SpectralNormSpec | WeightStandardizationSpec | ScaledWeightStandardizationSpec

_Norms = NoNorm | BatchStatisticsNorm | OtherStatisticsNorm | WeightNormalization
NormSpec = Annotated[_Norms, Field(discriminator="kind"), usual(_Norms)]
"""Without a usual kind: which it is depends on the network."""

__all__ = [
    "BatchInstanceNormSpec",
    "BatchNormSpec",
    "BatchRenormSpec",
    "BatchSize",
    "BatchStatisticsNorm",
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
    "NoiseNormSpec",
    "NoisyBatchNormSpec",
    "NormModel",
    "NormSpec",
    "OtherStatisticsNorm",
    "Place",
    "PowerNormSpec",
    "RmsNormSpec",
    "ScaledWeightStandardizationSpec",
    "SpectralNormSpec",
    "SwitchableNormSpec",
    "SyncBatchNormSpec",
    "WeightNormSpec",
    "WeightNormalization",
    "WeightStandardizationSpec",
]
