"""The one place where a spec becomes a normalization layer.

A spec names its numbers as the layer does. mypy names a member of the union that has no `case`.
"""

from collections.abc import Mapping
from typing import Any, assert_never

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from bncore.norm.batch_instance_norm import BatchInstanceNorm
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from bncore.norm.domain_batch_norm import DomainBatchNorm
from bncore.norm.dynamic_tanh import DynamicTanh
from bncore.norm.evo_norm import EvoNormB0, EvoNormS0
from bncore.norm.filter_response_norm import FilterResponseNorm
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.ghost_batch_norm import GhostBatchNorm
from bncore.norm.global_response_norm import GlobalResponseNorm
from bncore.norm.group_norm import GroupNorm
from bncore.norm.instance_norm import InstanceNorm
from bncore.norm.iter_norm import IterNorm
from bncore.norm.l1_batch_norm import L1BatchNorm
from bncore.norm.layer_norm import LayerNorm
from bncore.norm.lp_batch_norm import LpBatchNorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.moving_average_batch_norm import MovingAverageBatchNorm
from bncore.norm.noise import Noise
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.power_norm import PowerNorm
from bncore.norm.rms_norm import RMSNorm
from bncore.norm.switchable_norm import SwitchableNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from bncore.spec.faults import SpecError, faults_of
from bncore.spec.norm import (
    BatchInstanceNormSpec,
    BatchNormSpec,
    BatchRenormSpec,
    BatchStatisticsNorm,
    CrossIterationBatchNormSpec,
    DecorrelatedBatchNormSpec,
    DomainBatchNormSpec,
    DynamicTanhSpec,
    EvoNormB0Spec,
    EvoNormS0Spec,
    FilterResponseNormSpec,
    FrozenBatchNormSpec,
    GhostBatchNormSpec,
    GlobalResponseNormSpec,
    GroupNormSpec,
    InstanceNormSpec,
    IterNormSpec,
    L1BatchNormSpec,
    LayerNormSpec,
    LinearRamp,
    LpBatchNormSpec,
    MaskedBatchNormSpec,
    MovingAverageBatchNormSpec,
    NoiseNormSpec,
    NoisyBatchNormSpec,
    NormSpec,
    OtherStatisticsNorm,
    PowerNormSpec,
    RmsNormSpec,
    SwitchableNormSpec,
    SyncBatchNormSpec,
)

_SPEC: TypeAdapter[NormSpec] = TypeAdapter(NormSpec)


def build_norm(
    spec: NormSpec | Mapping[str, Any],
    num_features: int,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module | None:
    """The layer of `spec` for `num_features` channels; None where it asks for none or normalizes weights instead.

    `seed` is for layers that draw random numbers.

    Raises:
        ValueError: for a dict that is no spec.
    """
    spec = norm_spec(spec)
    options: dict[str, Any] = spec.model_dump(exclude={"kind", "center_weights"})
    options |= {"device": device, "dtype": dtype}
    match spec:
        case BatchRenormSpec():
            options |= {"r_max": _bound(spec.r_max), "d_max": _bound(spec.d_max)}
        case NoisyBatchNormSpec() | NoiseNormSpec():
            options["seed"] = seed
        case LpBatchNormSpec():
            options["p"] = float(spec.p)
        case _:
            pass
    if isinstance(spec, BatchStatisticsNorm):
        return _batch_layer(spec)(num_features, **options)
    if isinstance(spec, OtherStatisticsNorm):
        return _other_layer(spec)(num_features, **options)
    return None


def norm_spec(spec: NormSpec | Mapping[str, Any]) -> NormSpec:
    """The spec itself, or the one that a dict describes.

    Raises:
        ValueError: it is none.
    """
    try:
        wanted: NormSpec = _SPEC.validate_python(spec)
    except ValidationError as error:
        raise SpecError(faults_of(error, NormSpec)) from None
    return wanted


def _batch_layer(spec: BatchStatisticsNorm) -> type[nn.Module]:  # noqa: C901 - one case a member
    match spec:
        case BatchNormSpec():
            return BatchNorm
        case BatchRenormSpec():
            return BatchRenorm
        case GhostBatchNormSpec():
            return GhostBatchNorm
        case SyncBatchNormSpec():
            return SyncBatchNorm
        case FrozenBatchNormSpec():
            return FrozenBatchNorm
        case NoisyBatchNormSpec():
            return NoisyBatchNorm
        case LpBatchNormSpec():
            return LpBatchNorm
        case L1BatchNormSpec():
            return L1BatchNorm
        case DecorrelatedBatchNormSpec():
            return DecorrelatedBatchNorm
        case IterNormSpec():
            return IterNorm
        case DomainBatchNormSpec():
            return DomainBatchNorm
        case CrossIterationBatchNormSpec():
            return CrossIterationBatchNorm
        case MaskedBatchNormSpec():
            return MaskedBatchNorm
        case _:
            assert_never(spec)


def _other_layer(spec: OtherStatisticsNorm) -> type[nn.Module]:  # noqa: C901 - one case a member
    match spec:
        case MovingAverageBatchNormSpec():
            return MovingAverageBatchNorm
        case PowerNormSpec():
            return PowerNorm
        case BatchInstanceNormSpec():
            return BatchInstanceNorm
        case SwitchableNormSpec():
            return SwitchableNorm
        case EvoNormB0Spec():
            return EvoNormB0
        case LayerNormSpec():
            return LayerNorm
        case InstanceNormSpec():
            return InstanceNorm
        case GroupNormSpec():
            return GroupNorm
        case RmsNormSpec():
            return RMSNorm
        case FilterResponseNormSpec():
            return FilterResponseNorm
        case EvoNormS0Spec():
            return EvoNormS0
        case GlobalResponseNormSpec():
            return GlobalResponseNorm
        case DynamicTanhSpec():
            return DynamicTanh
        case NoiseNormSpec():
            return Noise
        case _:
            assert_never(spec)


def _bound(bound: float | LinearRamp) -> float | Ramp:
    if isinstance(bound, LinearRamp):
        return Ramp(bound.start, bound.end, bound.start_step, bound.end_step)
    return bound
