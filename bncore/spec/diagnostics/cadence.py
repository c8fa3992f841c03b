"""When a diagnostic measures, and on how many examples: what all kinds have in common.

Invariant: whether one is due is a function of the spec and the step, so that a run that is resumed measures exactly
what it would have measured.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.diagnostics.sighted import Sighted
from bncore.spec.strict import SpecModel, Steps

MOST_MEASUREMENTS = 1000
"""Of one kind in one run. Each is a file, and a request lists them all."""
MOST_EXAMPLES = 4096

Moment = Annotated[int, Field(ge=0, le=100_000_000)]


class DiagnosticModel(SpecModel):
    """A member of the union: a cadence, and the examples that are measured on."""

    usual: ClassVar[dict[str, Any]]
    """The cadence of one that names none."""
    takes_second_derivatives: ClassVar[bool] = False
    scalars: ClassVar[tuple[str, ...]] = ()
    """What it finds in every network, by which its series are called: `diagnostics/<kind>/<scalar>`."""

    blocked: ClassVar[frozenset[str]] = frozenset()
    """Scalars that are no number before the first step where normalizations begin with scales of 0: nothing varies
    behind these, and what lies before them has no gradient."""

    every_steps: Steps | None = Field(
        default=None, description="Measure before the first step, every so many steps, and at the end; or give at."
    )
    at: Annotated[tuple[Moment, ...], Field(strict=False, min_length=1, max_length=MOST_MEASUREMENTS)] | None = Field(
        default=None, description="Measure after these steps; 0 is before the first, at initialization."
    )

    @model_validator(mode="before")
    @classmethod
    def _cadence_is_filled_in(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("every_steps") is None and value.get("at") is None:
            return {**value, **cls.usual}
        return value

    @model_validator(mode="after")
    def _one_cadence(self) -> "DiagnosticModel":
        faults = []
        if self.every_steps is not None and self.at is not None:
            faults.append(("/at", "Give every_steps or at, not both", "two_cadences"))
        if self.at is not None and len(set(self.at)) < len(self.at):
            faults.append(("/at", "Name each step once", "repeated_step"))
        if faults:
            raise PydanticCustomError("cross_field", "fields that do not go together", {"faults": faults})
        return self

    def is_due(self, step: int, total_steps: int) -> bool:
        """Whether to measure after that many steps, the end of training apart."""
        if self.at is not None:
            return step in self.at
        return step % self.interval(total_steps) == 0

    @property
    def is_due_at_end(self) -> bool:
        """Whether to measure at the end of training, whenever that is."""
        return self.at is None

    def interval(self, total_steps: int) -> int:  # noqa: ARG002  (a kind may choose it by the budget)
        """Steps between two measurements, of a cadence that has one."""
        assert self.every_steps is not None
        return self.every_steps

    def measurements(self, total_steps: int) -> int:
        """How often it measures in a run that uses up its budget."""
        if self.at is not None:
            return sum(step <= total_steps for step in self.at)
        interval = self.interval(total_steps)
        return 1 + -(-total_steps // interval)

    def moments(self, total_steps: int) -> tuple[int, ...]:
        """After which steps it measures in such a run, ascending."""
        steps = sorted(self.at) if self.at is not None else range(0, total_steps, self.interval(total_steps))
        found = [step for step in steps if step <= total_steps and self.is_due(step, total_steps)]
        return (*found, total_steps) if self.is_due_at_end else tuple(found)

    def found_in(self, sighted: Sighted) -> tuple[str, ...]:  # noqa: ARG002  (of some kinds it depends on the network)
        """The scalars that a run leaves whose numbers are finite."""
        return self.scalars

    def known_at(self, name: str, sighted: Sighted) -> tuple[int, ...]:
        """After which steps a scalar of these is a number; none, where the network makes it none for any weights."""
        if self.why_unknown(name, sighted):
            return ()
        return tuple(step for step in sighted.moments if step) if self._waits(name, sighted) else sighted.moments

    def why_unknown(self, name: str, sighted: Sighted) -> str:
        """Why a scalar is a number after no step, as a sentence begins, and what would help; "" where it is one."""
        if self._waits(name, sighted) and set(sighted.moments) == {0}:
            return "before the first step nothing passes scales that begin with 0; measure it later"
        return ""

    def _waits(self, name: str, sighted: Sighted) -> bool:
        return name in self.blocked and sighted.begins_with_zeros

    def measured_on(self, train_examples: int, batch_size: int) -> int:
        """How many examples each measurement takes."""
        raise NotImplementedError

    def passes(self, weight_layers: int) -> float:
        """Passes of its examples through the network a measurement takes; a step of training takes 3 of its batch."""
        raise NotImplementedError

    def numbers(self, outputs: int) -> int:  # noqa: ARG002
        """How many numbers a measurement puts down for each example."""
        return 0


class OnBatch(DiagnosticModel):
    """One that takes as many examples as are normalized together in training."""

    def measured_on(self, train_examples: int, batch_size: int) -> int:
        return min(max(2, batch_size), train_examples)


class OnProbe(DiagnosticModel):
    """One that measures on a fixed batch."""

    examples: int = Field(
        default=256,
        ge=2,
        le=MOST_EXAMPLES,
        description="Of the training data, drawn once by the seed and never augmented; all, where there are fewer.",
    )

    def measured_on(self, train_examples: int, batch_size: int) -> int:  # noqa: ARG002
        return min(self.examples, train_examples)
