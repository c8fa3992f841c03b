"""What an experiment is: torch-free, and the one definition that the API, the store and the trainer share."""

from bncore.spec.blueprint import LayerPlan
from bncore.spec.budget import CheckpointSpec, EvaluationSpec, LossSpec, ResourcesSpec, TargetSpec, TrainSpec
from bncore.spec.catalog import CATALOG, Kind, kinds, members
from bncore.spec.data import (
    DataShape,
    DataSpec,
    DigitsSpec,
    Mnist5kSpec,
    SanturkarLinearSpec,
    Task,
    ValidationSpec,
    VariableLengthSpec,
    data_shape,
)
from bncore.spec.experiment import SPEC_VERSION, ExperimentSpec, fingerprint_of
from bncore.spec.faults import Fault, SpecError, faults_of
from bncore.spec.init import DefaultInit, InitSpec, KaimingInit, NormalInit, OrthogonalInit, UniformInit, XavierInit
from bncore.spec.network import INPUT_NORM_EPS, CnnSpec, MlpSpec, NetworkSpec, ResidualMlpSpec
from bncore.spec.norm import (
    BatchNormSpec,
    BatchRenormSpec,
    GroupNormSpec,
    LayerNormSpec,
    LinearRamp,
    NoNorm,
    NormSpec,
)
from bncore.spec.optimizer import (
    AdamSpec,
    AdamWSpec,
    ConstantSchedule,
    CosineSchedule,
    OptimizerSpec,
    ScheduleSpec,
    SgdSpec,
    StepSchedule,
    lr_factor,
)
from bncore.spec.parse import load_spec, parse_json, plan
from bncore.spec.plan import Plan

__all__ = [
    "CATALOG",
    "INPUT_NORM_EPS",
    "SPEC_VERSION",
    "AdamSpec",
    "AdamWSpec",
    "BatchNormSpec",
    "BatchRenormSpec",
    "CheckpointSpec",
    "CnnSpec",
    "ConstantSchedule",
    "CosineSchedule",
    "DataShape",
    "DataSpec",
    "DefaultInit",
    "DigitsSpec",
    "EvaluationSpec",
    "ExperimentSpec",
    "Fault",
    "GroupNormSpec",
    "InitSpec",
    "KaimingInit",
    "Kind",
    "LayerNormSpec",
    "LayerPlan",
    "LinearRamp",
    "LossSpec",
    "MlpSpec",
    "Mnist5kSpec",
    "NetworkSpec",
    "NoNorm",
    "NormSpec",
    "NormalInit",
    "OptimizerSpec",
    "OrthogonalInit",
    "Plan",
    "ResidualMlpSpec",
    "ResourcesSpec",
    "SanturkarLinearSpec",
    "ScheduleSpec",
    "SgdSpec",
    "SpecError",
    "StepSchedule",
    "TargetSpec",
    "Task",
    "TrainSpec",
    "UniformInit",
    "ValidationSpec",
    "VariableLengthSpec",
    "XavierInit",
    "data_shape",
    "faults_of",
    "fingerprint_of",
    "kinds",
    "load_spec",
    "lr_factor",
    "members",
    "parse_json",
    "plan",
]
