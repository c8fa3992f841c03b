"""The diagnostic that every experiment has, unless it says otherwise."""

from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from bncore.spec.budget import Statistics
from bncore.spec.diagnostics.affordable import LEAST_STEPS, precise_examples
from bncore.spec.diagnostics.cadence import MOST_EXAMPLES, OnBatch
from bncore.spec.diagnostics.sighted import Sighted

_STEPS, _TIMES = 1000, 100
"""Unless told otherwise: not more often than every so many steps, and not more than so many times."""
_DRIFTS = frozenset({"mean_drift", "variance_drift"})
"""Since the time before."""
_WITHOUT_A_PASS = _DRIFTS | {"non_finite"}
"""What layers say of themselves."""


class NormHealthSpec(OnBatch):
    """How the normalizations are doing: gap between the statistics of a batch and the running ones, drift of these,
    channels that do not vary, clipped corrections of batch renorm, too few updates for the momentum; at the end the
    accuracy with running, batch and precise statistics. What is wrong is said in words. Runs unless it is switched off;
    of a short run it then leaves out what would take more than some percent of it, and says so.
    """

    usual: ClassVar[dict[str, Any]] = {}

    greatest: ClassVar[tuple[str, ...]] = (
        *("gap", "mean_gap", "variance_gap", "mean_drift", "variance_drift", "dead", "non_finite"),
        *("clipped_r", "clipped_d"),
    )
    """Of what the greatest of all layers is a scalar, `max_<name>`, where any has it."""
    accuracies: ClassVar[tuple[str, ...]] = (
        *(f"accuracy_{statistics}" for statistics in get_args(Statistics)),
        *("examples_accuracy", "examples_precise"),
    )
    """Scalars of the end."""

    kind: Literal["norm_health"] = "norm_health"
    enabled: bool = Field(default=True, description="False switches it off.")
    examples: int | None = Field(
        default=None,
        ge=2,
        le=MOST_EXAMPLES,
        description="Of the training data, drawn once by the seed, as a sampler has them come together, and never "
        "augmented; null, as many as are normalized together in training.",
    )

    full: bool | None = Field(
        default=None,
        description="Measure all of it, however short the run, with accuracies of all test data; false, only what "
        "takes a few percent of the steps done so far. null: true where every_steps or at is given, else false.",
    )

    def is_due(self, step: int, total_steps: int) -> bool:
        if not self.enabled or (step == 0 and self._is_left_to_us):
            # Running statistics are initial values then.
            return False
        return super().is_due(step, total_steps)

    @property
    def is_due_at_end(self) -> bool:
        return self.enabled and super().is_due_at_end

    def interval(self, total_steps: int) -> int:
        if self._is_left_to_us:
            return max(_STEPS, -(-total_steps // _TIMES))
        return super().interval(total_steps)

    def measurements(self, total_steps: int) -> int:
        if not self.enabled:
            return 0
        return super().measurements(total_steps) - self._is_left_to_us

    def found_in(self, sighted: Sighted) -> tuple[str, ...]:
        there = {name for norm in sighted.norms for name in norm.health}
        if len(sighted.moments) < 2:
            there -= _DRIFTS
        if not any(self.passes_at(step) for step in sighted.moments):
            there &= _WITHOUT_A_PASS
        greatest = [f"max_{name}" for name in self.greatest if name in there]
        return (*greatest, "layers", *(self.accuracies if self._judges(sighted) else ()), "warnings")

    def known_at(self, name: str, sighted: Sighted) -> tuple[int, ...]:
        if name in self.accuracies:
            return (sighted.total_steps,)
        of_layers = name.removeprefix("max_")
        if of_layers in _DRIFTS:
            return sighted.moments[1:]
        if of_layers == name or of_layers in _WITHOUT_A_PASS:
            return sighted.moments
        return tuple(step for step in sighted.moments if self.passes_at(step))

    def _judges(self, sighted: Sighted) -> bool:
        is_afforded = self.is_full or sighted.evaluates_each or sighted.affordable is not None
        keeps_statistics = any(norm.has_running_statistics for norm in sighted.norms)
        return sighted.is_at_end and sighted.has_accuracy and keeps_statistics and is_afforded

    def passes_at(self, step: int) -> bool:
        """Whether a batch is passed then, without which layers say little."""
        return self.is_full or step >= LEAST_STEPS

    def measured_on(self, train_examples: int, batch_size: int) -> int:
        return super().measured_on(train_examples, self.examples or batch_size)

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 2.0

    def accuracy_passes(self, total_steps: int, batch_size: int, test_examples: int) -> int:
        """Of an example each, at the end of a run for accuracies by statistics, where it is to measure all of it."""
        at_end = self.is_due_at_end or total_steps in (self.at or ())
        return precise_examples(total_steps * batch_size) + 2 * test_examples if at_end and self.is_full else 0

    @property
    def is_full(self) -> bool:
        """Whether all of it is measured, whatever it takes."""
        return not self._is_left_to_us if self.full is None else self.full

    @property
    def _is_left_to_us(self) -> bool:
        return self.every_steps is None and self.at is None
