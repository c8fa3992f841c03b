"""What a run knows besides its tensors. It is training state: a resumed run takes it up where it was."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from bncore.events import Best, StopReason, Summary
from bncore.train.goal import Goals

DRAIN_STEPS = 32
"""Metrics leave the device in blocks that end at multiples of this. Divergence ends a run at such a step only, whenever
it was noticed, so that the end does not depend on when somebody looked."""

TEST_ACCURACY = "test/accuracy"


class Measured(BaseModel):
    """One evaluation: every evaluated series at that step."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    step: int
    values: dict[str, float]

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_written_before(cls, value: Any) -> Any:
        if isinstance(value, dict) and "values" not in value:
            names = {"loss": "test/loss", "accuracy": TEST_ACCURACY}
            return {"step": value.get("step"), "values": {names[key]: value[key] for key in names if key in value}}
        return value


class Progress(BaseModel):
    """Step, best so far, what was reached and when. `step` counts completed optimizer steps."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    step: int = 0
    seconds: float = 0.0
    best: Best | None = None
    best_test_accuracy: float | None = None
    steps_to_target: int | None = None
    diverged_at: int | None = None
    evaluation: Measured | None = None
    diagnosed_at_end: bool = False
    """Whether what is measured at the end of training has been."""
    diagnostic_seconds: float = 0.0
    """That diagnostics took, over all attempts; no part of `seconds`."""
    norm_warnings: tuple[str, ...] = ()
    """What was last said of the normalizations."""

    @model_validator(mode="after")
    def _best_as_it_was_written_before(self) -> "Progress":
        if self.best is None and self.best_test_accuracy is not None:
            self.best = Best(metric=TEST_ACCURACY, value=self.best_test_accuracy)
        return self

    def note_losses(self, first_step: int, losses: list[float]) -> None:
        """Remember the first step whose training loss was not finite."""
        if self.diverged_at is None:
            self.diverged_at = next((first_step + i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)

    def note_evaluation(self, measured: Measured, goals: Goals) -> set[Literal["best", "target"]]:
        """Take in an evaluation; what it is the first of. An equal one is no improvement: the older weights stay."""
        news: set[Literal["best", "target"]] = set()
        self.evaluation = measured
        accuracy = measured.values.get(TEST_ACCURACY)
        if accuracy is not None:
            self.best_test_accuracy = max(accuracy, self.best_test_accuracy or 0.0)
        value = measured.values[goals.best.metric]
        if goals.best.improved_by(value, self.best):
            self.best = Best(metric=goals.best.metric, value=value, step=measured.step)
            news.add("best")
        target = goals.target
        if target is not None and self.steps_to_target is None and target.reached_by(measured.values[target.metric]):
            self.steps_to_target = measured.step
            news.add("target")
        return news

    def reason_to_end(self, total_steps: int, goals: Goals) -> StopReason | None:
        """Why training ends at this step, if it does: a function of this state only, so that it survives a restart."""
        reached = goals.stops and self.steps_to_target is not None
        at_the_end = self.step >= total_steps
        if self.diverged_at is not None and (at_the_end or reached or self.step % DRAIN_STEPS == 0):
            return "diverged"
        if reached:
            return "target_reached"
        return "budget" if at_the_end else None

    def summary(self) -> Summary:
        """The result in numbers, after the final evaluation."""
        assert self.evaluation is not None
        values = self.evaluation.values
        return Summary(
            steps=self.step,
            seconds=self.seconds,
            test_accuracy=values.get(TEST_ACCURACY),
            test_loss=values["test/loss"],
            best_test_accuracy=self.best_test_accuracy,
            steps_to_target=self.steps_to_target,
            diverged_at=self.diverged_at,
            metrics=values,
            best=self.best,
        )
