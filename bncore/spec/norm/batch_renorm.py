"""Batch Renormalization and the schedule of its bounds."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.norm.batch_statistics import BatchStatistics, Momentum
from bncore.spec.strict import SpecModel, Steps


class LinearRamp(SpecModel):
    """A bound that moves linearly from `start` to `end` between two training steps and is constant outside them."""

    kind: Literal["linear"] = "linear"
    start: float = Field(ge=0.0, le=1e6)
    end: float = Field(ge=0.0, le=1e6)
    start_step: int = Field(default=0, ge=0, le=100_000_000)
    end_step: Steps

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "LinearRamp":
        if self.end_step <= self.start_step:
            raise PydanticCustomError(
                "cross_field",
                "end_step must be greater than start_step",
                {"faults": [("/end_step", "Must be greater than start_step", "ramp_order")]},
            )
        return self


def _bound_tag(value: Any) -> str:
    return "ramp" if isinstance(value, dict | LinearRamp) else "number"


RMax = Annotated[
    Annotated[float, Field(ge=1.0, le=1e6), Tag("number")] | Annotated[LinearRamp, Tag("ramp")],
    Discriminator(_bound_tag),
]
DMax = Annotated[
    Annotated[float, Field(ge=0.0, le=1e6), Tag("number")] | Annotated[LinearRamp, Tag("ramp")],
    Discriminator(_bound_tag),
]


class BatchRenormSpec(BatchStatistics):
    """Batch Renormalization (arXiv 1702.03275): batch norm pulled towards the running statistics; for small batches."""

    health: ClassVar[tuple[str, ...]] = (*BatchStatistics.health, "clipped_r", "clipped_d")

    kind: Literal["batch_renorm"] = "batch_renorm"
    momentum: Momentum | None = Field(
        default=0.01,
        description="Weight of the newest batch; 0.01 is the paper's value. null averages all batches equally.",
    )
    r_max: RMax = Field(
        default=3.0, description="Bound of the scale correction, at least 1; a number or a linear ramp."
    )
    d_max: DMax = Field(
        default=5.0, description="Bound of the shift correction, at least 0; a number or a linear ramp."
    )
    warmup_steps: int = Field(
        default=1000,
        ge=0,
        le=100_000_000,
        description="A bound given as a number rises linearly from plain batch norm (r_max 1, d_max 0) over so many "
        "steps; 0 starts at the number itself. A ramp ignores it.",
    )

    @model_validator(mode="after")
    def _scale_bound_is_a_bound(self) -> "BatchRenormSpec":
        if isinstance(self.r_max, LinearRamp):
            low = [name for name in ("start", "end") if getattr(self.r_max, name) < 1.0]
            if low:
                faults = [
                    (f"/r_max/{name}", "Must be at least 1: r lies in [1/r_max, r_max]", "r_max_below_one")
                    for name in low
                ]
                raise PydanticCustomError("cross_field", "r_max must be at least 1", {"faults": faults})
        return self
