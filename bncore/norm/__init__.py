"""Normalization layers, one variant a file, and the one place where a spec becomes a layer.

Layers take plain arguments and know nothing of specs. A new variant is a class in `bncore.spec.norm`, a file here and a
`case` below; mypy names a member of the union that has no `case`.
"""

from typing import assert_never

import torch
from torch import nn

from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.group_norm import GroupNorm
from bncore.norm.layer_norm import LayerNorm
from bncore.spec.norm import (
    BatchNormSpec,
    BatchRenormSpec,
    GroupNormSpec,
    LayerNormSpec,
    LinearRamp,
    NoNorm,
    NormSpec,
)

__all__ = ["BatchNorm", "BatchRenorm", "GroupNorm", "LayerNorm", "Ramp", "build_norm"]


def build_norm(
    spec: NormSpec, num_features: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Module | None:
    """The layer of `spec` for `num_features` channels, or None where it asks for no normalization."""
    match spec:
        case NoNorm():
            return None
        case BatchNormSpec():
            return BatchNorm(num_features, spec.eps, spec.momentum, spec.affine, device=device, dtype=dtype)
        case BatchRenormSpec():
            return BatchRenorm(
                num_features,
                eps=spec.eps,
                momentum=spec.momentum,
                r_max=_bound(spec.r_max),
                d_max=_bound(spec.d_max),
                warmup_steps=spec.warmup_steps,
                affine=spec.affine,
                device=device,
                dtype=dtype,
            )
        case LayerNormSpec():
            return LayerNorm(num_features, spec.eps, spec.affine, device=device, dtype=dtype)
        case GroupNormSpec():
            return GroupNorm(num_features, spec.num_groups, spec.eps, spec.affine, device=device, dtype=dtype)
        case _:
            assert_never(spec)


def _bound(bound: float | LinearRamp) -> float | Ramp:
    if isinstance(bound, LinearRamp):
        return Ramp(bound.start, bound.end, bound.start_step, bound.end_step)
    return bound
