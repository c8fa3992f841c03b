"""Normalization layers, one variant a file, and what is done with them to whole models.

Layers take plain arguments and know nothing of specs; `build.py` is the one place where a spec becomes a layer.
"""

from bncore.norm._native import first_derivatives_only
from bncore.norm.adaptive_clipping import adaptive_clip_grad_
from bncore.norm.batch_instance_norm import BatchInstanceNorm
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.build import build_norm
from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from bncore.norm.domain_batch_norm import DomainBatchNorm, select_domain
from bncore.norm.dynamic_tanh import DynamicTanh
from bncore.norm.evo_norm import EvoNormB0, EvoNormS0
from bncore.norm.filter_response_norm import FilterResponseNorm
from bncore.norm.fixup import ScalarBias, ScalarMultiplier, fixup_
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
from bncore.norm.model.convert import convert
from bncore.norm.model.decay import no_decay_parameters, parameter_groups
from bncore.norm.model.freeze import freeze, unfreeze
from bncore.norm.model.recalibrate import recalibrate
from bncore.norm.model.to_torch import to_torch
from bncore.norm.model.valid_positions import valid_positions
from bncore.norm.moving_average_batch_norm import MovingAverageBatchNorm
from bncore.norm.noise import Noise
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.power_norm import PowerNorm
from bncore.norm.rms_norm import RMSNorm
from bncore.norm.skip_init import SkipInit
from bncore.norm.spectral_norm import refresh_spectral_norm, remove_spectral_norm, spectral_norm
from bncore.norm.switchable_norm import SwitchableNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from bncore.norm.weight_centralization import remove_weight_centralization, weight_centralization
from bncore.norm.weight_norm import remove_weight_norm, weight_norm
from bncore.norm.weight_standardization import (
    remove_weight_standardization,
    scaled_weight_standardization,
    weight_standardization,
)

__all__ = [
    "BatchInstanceNorm",
    "BatchNorm",
    "BatchRenorm",
    "CrossIterationBatchNorm",
    "DecorrelatedBatchNorm",
    "DomainBatchNorm",
    "DynamicTanh",
    "EvoNormB0",
    "EvoNormS0",
    "FilterResponseNorm",
    "FrozenBatchNorm",
    "GhostBatchNorm",
    "GlobalResponseNorm",
    "GroupNorm",
    "InstanceNorm",
    "IterNorm",
    "L1BatchNorm",
    "LayerNorm",
    "LpBatchNorm",
    "MaskedBatchNorm",
    "MovingAverageBatchNorm",
    "Noise",
    "NoisyBatchNorm",
    "PowerNorm",
    "RMSNorm",
    "Ramp",
    "ScalarBias",
    "ScalarMultiplier",
    "SkipInit",
    "SwitchableNorm",
    "SyncBatchNorm",
    "adaptive_clip_grad_",
    "build_norm",
    "convert",
    "first_derivatives_only",
    "fixup_",
    "freeze",
    "no_decay_parameters",
    "parameter_groups",
    "recalibrate",
    "refresh_spectral_norm",
    "remove_spectral_norm",
    "remove_weight_centralization",
    "remove_weight_norm",
    "remove_weight_standardization",
    "scaled_weight_standardization",
    "select_domain",
    "spectral_norm",
    "to_torch",
    "unfreeze",
    "valid_positions",
    "weight_centralization",
    "weight_norm",
    "weight_standardization",
]
