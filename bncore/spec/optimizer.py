"""Which optimizer and which learning-rate schedule; the schedule is a pure function of the step."""

import math
from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.strict import Epsilon, Fraction, SpecModel, Steps

LearningRate = Annotated[float, Field(gt=0.0, le=1e4)]
"""Up to 1e4, since scale-invariant networks train at rates that look absurd elsewhere."""
WeightDecay = Annotated[
    float, Field(ge=0.0, le=100.0, description="Of every parameter: scales, shifts and biases decay as well.")
]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class SgdSpec(SpecModel):
    """Stochastic gradient descent as in torch.optim.SGD; weight decay is added to the gradient."""

    kind: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.1
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0, description="At 1 the velocity never decays.")
    nesterov: bool = Field(default=False, description="Needs a momentum above 0.")
    weight_decay: WeightDecay = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SgdSpec":
        if self.nesterov and self.momentum == 0.0:
            fault = ("/nesterov", "Needs a momentum above 0", "nesterov_without_momentum")
            raise PydanticCustomError("cross_field", "nesterov needs a momentum above 0", {"faults": [fault]})
        return self


class AdamSpec(SpecModel):
    """Adam (arXiv 1412.6980) as in torch.optim.Adam; weight decay is added to the gradient."""

    kind: Literal["adam"] = "adam"
    lr: LearningRate = 1e-3
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.0


class AdamWSpec(SpecModel):
    """Adam with decoupled weight decay (arXiv 1711.05101) as in torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    lr: LearningRate = 1e-3
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01


OptimizerSpec = Annotated[SgdSpec | AdamSpec | AdamWSpec, Field(discriminator="kind")]


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


ScheduleSpec = Annotated[ConstantSchedule | StepSchedule | CosineSchedule, Field(discriminator="kind")]


def lr_factor(schedule: ScheduleSpec, step: int, total_steps: int) -> float:
    """What the learning rate is multiplied by at optimizer step `step` (1 ... total_steps).

    Warm-up step k of w uses k/w. Cosine: f + (1 - f) (1 + cos(pi t)) / 2 (arXiv 1608.03983, eq. 5) with
    t = (step - 1 - w) / (total_steps - w).
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
        case _:
            assert_never(schedule)
