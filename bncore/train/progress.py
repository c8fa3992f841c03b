"""What a run knows besides its tensors. It is training state: a resumed run takes it up where it was."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bncore.events import StopReason, Summary
from bncore.spec import TargetSpec

DRAIN_STEPS = 32
"""Metrics leave the device in blocks that end at multiples of this. Divergence ends a run at such a step only, whenever
it was noticed, so that the end does not depend on when somebody looked."""


class Measured(BaseModel):
    """One evaluation on the test data."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    step: int
    loss: float
    accuracy: float


class Progress(BaseModel):
    """Step, best so far, what was reached and when. `step` counts completed optimizer steps."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    step: int = 0
    seconds: float = 0.0
    best_test_accuracy: float | None = None
    steps_to_target: int | None = None
    diverged_at: int | None = None
    evaluation: Measured | None = None

    def note_losses(self, first_step: int, losses: list[float]) -> None:
        """Remember the first step whose training loss was not finite."""
        if self.diverged_at is None:
            self.diverged_at = next((first_step + i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)

    def note_evaluation(self, measured: Measured, target: TargetSpec | None) -> set[Literal["best", "target"]]:
        """Take in an evaluation; what it is the first of. Equal accuracy is no improvement: the older weights stay."""
        news: set[Literal["best", "target"]] = set()
        self.evaluation = measured
        if self.best_test_accuracy is None or measured.accuracy > self.best_test_accuracy:
            self.best_test_accuracy = measured.accuracy
            news.add("best")
        if target and self.steps_to_target is None and measured.accuracy >= target.test_accuracy:
            self.steps_to_target = measured.step
            news.add("target")
        return news

    def reason_to_end(self, total_steps: int, target: TargetSpec | None) -> StopReason | None:
        """Why training ends at this step, if it does: a function of this state only, so that it survives a restart."""
        reached = target is not None and target.stop and self.steps_to_target is not None
        at_the_end = self.step >= total_steps
        if self.diverged_at is not None and (at_the_end or reached or self.step % DRAIN_STEPS == 0):
            return "diverged"
        if reached:
            return "target_reached"
        return "budget" if at_the_end else None

    def summary(self) -> Summary:
        """The result in numbers, after the final evaluation."""
        assert self.evaluation is not None
        assert self.best_test_accuracy is not None
        return Summary(
            steps=self.step,
            seconds=self.seconds,
            test_accuracy=self.evaluation.accuracy,
            test_loss=self.evaluation.loss,
            best_test_accuracy=self.best_test_accuracy,
            steps_to_target=self.steps_to_target,
            diverged_at=self.diverged_at,
        )
