"""Which loss is descended; what it can be is the data's to say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bncore.spec.data import DataSpec, data_shape
from bncore.spec.strict import SpecModel


class CrossEntropySpec(SpecModel):
    """Cross entropy over the classes, averaged over the batch; of sequences with a label for each step, over these."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the label spread evenly over all classes; training only."
    )


class MeanSquaredErrorSpec(SpecModel):
    """The squared error, averaged over the batch and the numbers that are predicted; for regressions."""

    kind: Literal["mean_squared_error"] = "mean_squared_error"


def _cross_entropy_if_unsaid(value: Any) -> Any:
    """A spec of the time when there was one loss need not name it."""
    return {"kind": "cross_entropy", **value} if isinstance(value, dict) else value


LossSpec = Annotated[
    CrossEntropySpec | MeanSquaredErrorSpec, Field(discriminator="kind"), BeforeValidator(_cross_entropy_if_unsaid)
]


def usual_loss(parts: Mapping[str, Any]) -> LossSpec:
    """That of a spec which names none; `parts` are those of its parts that are valid."""
    data: DataSpec | None = parts.get("data")
    return MeanSquaredErrorSpec() if data and data_shape(data).task == "regression" else CrossEntropySpec()
