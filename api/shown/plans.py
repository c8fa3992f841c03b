"""What a spec amounts to before anything runs."""

from typing import Any

from pydantic import Field

from api.shown import Shown
from bncore.spec import ExperimentSpec, plan


class Layer(Shown):
    name: str
    kind: str
    output_shape: list[int] = Field(description="Without the batch.")
    parameters: int


class SpecPlan(Shown):
    """What a spec amounts to before anything runs."""

    layers: list[Layer]
    parameters: int
    input_shape: list[int]
    classes: int
    train_examples: int
    test_examples: int
    steps_per_epoch: int
    total_steps: int


class Validated(Shown):
    spec: dict[str, Any] = Field(description="With every default filled in.")
    plan: SpecPlan

    @classmethod
    def of(cls, spec: ExperimentSpec) -> "Validated":
        found = plan(spec)
        layers = [
            Layer(name=layer.name, kind=layer.kind, output_shape=list(layer.output_shape), parameters=layer.parameters)
            for layer in found.layers
        ]
        shown = SpecPlan(
            layers=layers,
            parameters=found.parameters,
            input_shape=list(found.input_shape),
            classes=found.classes,
            train_examples=found.train_examples,
            test_examples=found.test_examples,
            steps_per_epoch=found.steps_per_epoch,
            total_steps=found.total_steps,
        )
        return cls(spec=spec.model_dump(mode="json"), plan=shown)
