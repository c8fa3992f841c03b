"""Which optimizer and which learning-rate schedule; the schedule is a pure function of the step."""

import math
from typing import Annotated, ClassVar, Literal, assert_never

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.strict import Epsilon, Fraction, SpecModel, Steps
from bncore.spec.usual import usual

MAX_LR = 1e4
"""Scale-invariant networks train at rates that look absurd elsewhere."""
LearningRate = Annotated[float, Field(gt=0.0, le=MAX_LR, description="What the schedule multiplies.")]
WeightDecay = Annotated[
    float,
    Field(
        ge=0.0,
        le=100.0,
        description="Of every parameter: scales, shifts and biases decay as well, unless exempt_norms is set.",
    ),
]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Betas = Annotated[
    tuple[Beta, Beta],
    Field(strict=False, description="How much of the averages of the gradient and of its square is kept each step."),
]


class _WithDecay(SpecModel):
    exempt_norms: bool = Field(
        default=False,
        description="No weight decay for what normalizations learn (scales, shifts, gates) and for all biases.",
    )


class SgdSpec(_WithDecay):
    """Stochastic gradient descent as in torch.optim.SGD; weight decay is added to the gradient."""

    kind: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.1
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0, description="At 1 the velocity never decays.")
    nesterov: bool = Field(default=False, description="Needs a momentum above 0.")
    weight_decay: WeightDecay = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SgdSpec":
        _check_nesterov(self.nesterov, self.momentum)
        return self


class AdamSpec(_WithDecay):
    """Adam (arXiv 1412.6980) as in torch.optim.Adam; weight decay is added to the gradient."""

    kind: Literal["adam"] = "adam"
    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0


class AdamWSpec(_WithDecay):
    """Adam with decoupled weight decay (arXiv 1711.05101) as in torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01


class RmsPropSpec(_WithDecay):
    """RMSprop (Tieleman and Hinton 2012) as in torch.optim.RMSprop; weight decay is added to the gradient."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: LearningRate = 0.01
    alpha: Beta = Field(default=0.99, description="How much of the average of squared gradients a step keeps.")
    eps: Epsilon = Field(default=1e-8, description="Added to the root of the average.")
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0, description="Of the scaled gradients.")
    centered: bool = Field(
        default=False, description="Divide by the standard deviation of gradients (arXiv 1308.0850)."
    )
    weight_decay: WeightDecay = 0.0


class AdagradSpec(_WithDecay):
    """Adagrad (Duchi, Hazan, Singer 2011) as in torch.optim.Adagrad; weight decay is added to the gradient.

    Its learning rate decays with the schedule alone.
    """

    kind: Literal["adagrad"] = "adagrad"
    lr: LearningRate = 0.01
    eps: Epsilon = Field(default=1e-10, description="Added to the root of the sum of squared gradients.")
    initial_accumulator_value: float = Field(default=0.0, ge=0.0, le=1e6, description="What that sum begins with.")
    weight_decay: WeightDecay = 0.0


class LambSpec(_WithDecay):
    """LAMB (arXiv 1904.00962, algorithm 2, as its third version, without bias correction): Adam for large batches.

    The update of each tensor, weight decay included, is scaled to the norm of the tensor, of which at most 10 counts.
    """

    kind: Literal["lamb"] = "lamb"
    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-6
    weight_decay: WeightDecay = 0.0


class LarsSpec(_WithDecay):
    """LARS (arXiv 1708.03888, eq. 6): SGD for large batches, each tensor with a learning rate of its own.

    That is `lr` times `trust_coefficient` times the norm of the tensor over that of its gradient and decay. Vectors and
    scalars, such as scales and biases, are updated as by SGD, without weight decay.
    """

    kind: Literal["lars"] = "lars"
    lr: LearningRate = 1.0
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="At 1 the velocity never decays.")
    nesterov: bool = Field(default=False, description="Needs a momentum above 0.")
    trust_coefficient: float = Field(default=1e-3, gt=0.0, le=1.0, description="Share of its norm a tensor may move.")
    weight_decay: WeightDecay = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "LarsSpec":
        _check_nesterov(self.nesterov, self.momentum)
        return self


_Optimizers = SgdSpec | AdamSpec | AdamWSpec | RmsPropSpec | AdagradSpec | LambSpec | LarsSpec
OptimizerSpec = Annotated[_Optimizers, Field(discriminator="kind"), usual(_Optimizers, SgdSpec)]


class _Schedule(SpecModel):
    warmup_steps: int = Field(
        default=0, ge=0, le=100_000_000, description="Rise linearly to the full learning rate over so many steps."
    )


class ConstantSchedule(_Schedule):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


class StepSchedule(_Schedule):
    """The learning rate is multiplied by `gamma` every `step_size` steps, counted from the first."""

    kind: Literal["step"] = "step"
    step_size: Steps
    gamma: float = Field(default=0.1, gt=0.0, le=1.0)


class CosineSchedule(_Schedule):
    """Half a cosine from the full learning rate, after warm-up, to `final_fraction` of it at the end of the budget."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: Fraction = 0.0


class OneCycleSchedule(SpecModel):
    """One cycle (arXiv 1708.07120): up to the full learning rate, which is the highest, and down to almost nothing.

    As torch.optim.lr_scheduler.OneCycleLR in two phases; the optimizer's momentum stays as it is. The rise is its
    warm-up: there is no other.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    warmup_steps: ClassVar[int] = 0
    rise: float = Field(default=0.3, gt=0.0, lt=1.0, description="Share of the budget until the highest learning rate.")
    start_fraction: Fraction = Field(default=0.04, description="Of the full learning rate, at the first step.")
    final_fraction: Fraction = Field(default=4e-6, description="Of the full learning rate, at the last step.")
    anneal: Literal["cosine", "linear"] = Field(default="cosine", description="The shape of both ways.")


class WarmRestartsSchedule(_Schedule):
    """SGDR (arXiv 1608.03983): half a cosine, again and again, each time `period_factor` times as long as before."""

    kind: Literal["warm_restarts"] = "warm_restarts"
    period: Steps = Field(description="Steps of the first cosine; warm-up comes before it.")
    period_factor: int = Field(default=1, ge=1, le=1000, description="T_mult.")
    final_fraction: Fraction = Field(default=0.0, description="Where each cosine would end one step after its last.")


_Schedules = ConstantSchedule | StepSchedule | CosineSchedule | OneCycleSchedule | WarmRestartsSchedule
ScheduleSpec = Annotated[_Schedules, Field(discriminator="kind"), usual(_Schedules, ConstantSchedule)]


def lr_factor(schedule: ScheduleSpec, step: int, total_steps: int) -> float:
    """What the learning rate is multiplied by at optimizer step `step` (1 ... total_steps).

    Warm-up step k of w uses k/w. Cosine: f + (1 - f) (1 + cos(pi t)) / 2 (arXiv 1608.03983, eq. 5) with
    t = (step - 1 - w) / (total_steps - w); with warm restarts, t is the share of the period that is over.
    """
    warmup = schedule.warmup_steps
    if step <= warmup:
        return step / warmup
    match schedule:
        case ConstantSchedule():
            return 1.0
        case StepSchedule(step_size=step_size, gamma=gamma):
            return float(gamma ** ((step - 1) // step_size))
        case CosineSchedule(final_fraction=final):
            progress = (step - 1 - warmup) / (total_steps - warmup)
            return final + (1.0 - final) * (1.0 + math.cos(math.pi * progress)) / 2.0
        case OneCycleSchedule():
            return _one_cycle(schedule, step - 1, total_steps)
        case WarmRestartsSchedule(final_fraction=final):
            progress = _share_of_period(schedule, step - 1 - warmup)
            return final + (1.0 - final) * (1.0 + math.cos(math.pi * progress)) / 2.0
        case _:
            assert_never(schedule)


def _check_nesterov(nesterov: bool, momentum: float) -> None:
    if nesterov and momentum == 0.0:
        fault = ("/nesterov", "Needs a momentum above 0", "nesterov_without_momentum")
        raise PydanticCustomError("cross_field", "nesterov needs a momentum above 0", {"faults": [fault]})


def _one_cycle(schedule: OneCycleSchedule, step: int, total_steps: int) -> float:
    """At `step` 0 ... total_steps - 1. The top is between two steps where the rise does not end at one."""
    top, end = schedule.rise * total_steps - 1.0, total_steps - 1.0
    if step == top or end <= top:
        return 1.0
    if step < top:
        return _between(schedule.start_fraction, 1.0, step / top, schedule.anneal)
    return _between(1.0, schedule.final_fraction, (step - top) / (end - top), schedule.anneal)


def _between(start: float, end: float, share: float, anneal: Literal["cosine", "linear"]) -> float:
    if anneal == "linear":
        return start + (end - start) * share
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def _share_of_period(schedule: WarmRestartsSchedule, step: int) -> float:
    period, factor = schedule.period, schedule.period_factor
    if factor == 1:
        return step % period / period
    while step >= period:
        step -= period
        period *= factor
    return step / period
