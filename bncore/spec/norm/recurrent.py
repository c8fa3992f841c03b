"""Normalizations inside recurrent layers: what `rnn`, `lstm` and `gru` offer in place of those for batches.

A recurrent layer has two projections, of its input and of its own state; each member says which of them it normalizes
and by which statistics.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm import NoNorm
from bncore.spec.norm.batch_statistics import BatchStatistics, RunningStatistics
from bncore.spec.norm.place import BatchSize, NormModel, Place
from bncore.spec.strict import Epsilon
from bncore.spec.usual import usual


class SequenceBatchNormSpec(BatchStatistics):
    """Sequence-wise batch norm (arXiv 1510.01378): W_x x by statistics of all frames, and W_h h not at all.

    The cell's bias is its shift.
    """

    counts_padding: ClassVar[bool] = False

    kind: Literal["sequence_batch_norm"] = "sequence_batch_norm"
    affine: bool = Field(default=True, description="Learn a scale per channel.")

    def parameters(self, channels: int) -> int:
        return channels if self.affine else 0


class StepBatchNormSpec(RunningStatistics):
    """Recurrent batch norm (arXiv 1603.09025): W_x x and W_h h each by statistics of the time step's own.

    An LSTM's cell is normalized on its way out too, and nothing on its way from step to step. The cell's bias is the
    shift of the projections.
    """

    counts_padding: ClassVar[bool] = False
    is_passed: ClassVar[bool] = False
    # Of a step there is no output by itself.
    health: ClassVar[tuple[str, ...]] = tuple(name for name in RunningStatistics.health if name != "gap")
    state_field: ClassVar[str] = "max_steps"
    state_cure: ClassVar[str] = "fewer max_steps"

    kind: Literal["step_batch_norm"] = "step_batch_norm"
    gamma: float = Field(
        default=0.1, gt=0.0, le=100.0, description="Initial scale; 0.1, the paper's, keeps tanh out of saturation."
    )
    initial_noise: float = Field(
        default=0.1,
        ge=0.0,
        le=100.0,
        description="Standard deviation of noise in the state h that sequences begin with, in training. While all "
        "sequences of a batch are alike, as digits are in their blank first rows, a state without noise has no "
        "variance, and each step multiplies gradients by up to gamma^2 / eps.",
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Time steps with statistics of their own; all later ones share the last one's. null: as many as "
        "the longest sequence of the data has.",
    )

    def rows(self, steps: int) -> int:
        """Time steps with statistics of their own, for sequences of at most so many steps."""
        return steps if self.max_steps is None else self.max_steps

    def state(self, place: Place) -> int:
        return self.rows(place.frames) * (2 * place.channels + 1)

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        if batch.samples == 1:
            detail = f"Layer {place.layer} (step_batch_norm) would see one sequence in {batch.which}; {batch.cure}"
            yield Fault(batch.pointer, detail, "one_value_per_channel")


class RecurrentLayerNormSpec(NormModel):
    """Layer norm in the recurrence (arXiv 1607.06450): of both projections (rnn: of their sum), and of an LSTM's cell.

    Each over the values of one sequence at one step.
    """

    # A part of its cell, and no layer.
    is_passed: ClassVar[bool] = False
    health: ClassVar[tuple[str, ...]] = ()

    kind: Literal["layer_norm"] = "layer_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")


_RecurrentNorms = NoNorm | SequenceBatchNormSpec | StepBatchNormSpec | RecurrentLayerNormSpec
RecurrentNormSpec = Annotated[_RecurrentNorms, Field(discriminator="kind"), usual(_RecurrentNorms)]
