"""Which loss is descended; what it can be is the data's to say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from bncore.spec.data import DataSpec, data_shape
from bncore.spec.strict import SpecModel
from bncore.spec.usual import usual


class CrossEntropySpec(SpecModel):
    """Cross entropy over the classes, averaged over the batch; of sequences with a label for each step, over these."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the label spread evenly over all classes; training only."
    )


class MeanSquaredErrorSpec(SpecModel):
    """The squared error, averaged over the batch and the numbers that are predicted; for regressions."""

    kind: Literal["mean_squared_error"] = "mean_squared_error"


_Losses = CrossEntropySpec | MeanSquaredErrorSpec
LossSpec = Annotated[_Losses, Field(discriminator="kind"), usual(_Losses, CrossEntropySpec)]


def usual_loss(parts: Mapping[str, Any]) -> LossSpec:
    """That of a spec which names none; `parts` are those of its parts that are valid."""
    data: DataSpec | None = parts.get("data")
    return MeanSquaredErrorSpec() if data and data_shape(data).task == "regression" else CrossEntropySpec()
