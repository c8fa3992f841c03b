"""What a spec amounts to before anything runs."""

from collections.abc import Collection
from typing import Any

from pydantic import Field

from api.shown import Shown
from api.shown.waiting import Living, device_lives
from bncore.spec import ExperimentSpec, Fault, Task, cautions, plan


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
    task: Task
    outputs: int = Field(description="Classes, or numbers that a regression predicts.")
    classes: int | None = Field(description="Null for a regression.")
    train_examples: int
    validation_examples: int
    test_examples: int
    steps_per_epoch: int
    total_steps: int


class SpecWarning(Shown):
    """Something that a spec may say, and that may not be meant."""

    pointer: str = Field(description="JSON pointer into the spec.")
    detail: str
    code: str = Field(description="For programs.")


def warnings_of(
    spec: ExperimentSpec, living: Living, known: Collection[Fault] = (), found: Collection[Fault] = ()
) -> list[SpecWarning]:
    """What is worth saying of a spec right now, but for what is known of it; `found` is what the database says."""
    new = [one for one in (*cautions(spec), *found) if one not in known]
    said = [SpecWarning(pointer=one.pointer, detail=one.detail, code=one.code) for one in new]
    if spec.resources.device == "cuda" and living is not None and not device_lives(living, "cuda"):
        detail = "No worker for cuda is connected; it waits until one is."
        said.append(SpecWarning(pointer="/resources/device", detail=detail, code="no_such_worker"))
    return said


class Validated(Shown):
    spec: dict[str, Any] = Field(description="With every default filled in.")
    plan: SpecPlan
    warnings: list[SpecWarning] = Field(description="What may not be meant so.")

    @classmethod
    def of(cls, spec: ExperimentSpec, living: Living, of_classes: Collection[Fault] = ()) -> "Validated":
        shown = SpecPlan.model_validate(plan(spec), from_attributes=True)
        return cls(spec=spec.model_dump(mode="json"), plan=shown, warnings=warnings_of(spec, living, found=of_classes))
