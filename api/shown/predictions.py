"""Answers of a network."""

from typing import Any

from pydantic import Field

from api.shown import Real, Shown
from store import tables


class Predicted(Shown):
    """What the network of a checkpoint makes of the inputs, in their order."""

    checkpoint_id: str
    step: int = Field(description="Of the checkpoint.")
    task: str = Field(description="classification, tagging or regression.")
    probabilities: list[Any] | None = Field(description="Of each class; tagging: for each step. Null for a regression.")
    classes: list[Any] | None = Field(description="The most probable ones.")
    outputs: list[list[Real]] | None = Field(description="The numbers of a regression.")

    @classmethod
    def of(cls, row: tables.Prediction) -> "Predicted":
        found = row.result or {}
        return cls(
            checkpoint_id=row.checkpoint_id,
            step=found["step"],
            task=found["task"],
            probabilities=found.get("probabilities"),
            classes=found.get("classes"),
            outputs=found.get("outputs"),
        )
