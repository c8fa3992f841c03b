"""Normalizations with statistics of the batch in training and running averages in evaluation.

Momentum is PyTorch's everywhere: new = (1 - momentum) * old + momentum * batch.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm.cold_start import initial_share
from bncore.spec.norm.noise import Noised
from bncore.spec.norm.place import BatchSize, NormModel, Place
from bncore.spec.strict import Epsilon, Integer

Momentum = Annotated[float, Field(gt=0.0, le=1.0)]


class RunningStatistics(NormModel):
    """What they share. A batch must give each channel more than one value: the variance of one value is 0."""

    counts_padding: ClassVar[bool] = True
    has_running_statistics: ClassVar[bool] = True
    health: ClassVar[tuple[str, ...]] = (
        *("gap", "mean_gap", "variance_gap", "mean_drift", "variance_drift"),
        *("dead", "non_finite"),
    )

    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")
    momentum: Momentum | None = Field(
        default=0.1,
        description="Weight of the newest batch in the running statistics; null averages all batches equally.",
    )

    def initial_share(self, batches: int) -> float:
        return initial_share(self.momentum, batches)

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        values = place.fewest(batch.samples) if self.counts_padding else place.values(batch.samples)
        if values == 1:
            sees = "may" if place.padded else "would"
            detail = (
                f"Layer {place.layer} ({self.name}) {sees} see one value per channel in {batch.which}; {batch.cure}"
            )
            yield Fault(batch.pointer, detail, "one_value_per_channel")


class BatchStatistics(RunningStatistics):
    """Those with a scale and a shift that can be left out."""

    affine: bool = Field(default=True, description="Learn a scale and a shift per channel.")

    def cancels_bias(self, channels: int) -> bool:
        return True


class BatchNormSpec(BatchStatistics):
    """Batch normalization (arXiv 1502.03167): statistics of the batch in training, running averages in evaluation.

    Of sequences of different lengths, only steps that are no padding count.
    """

    counts_padding: ClassVar[bool] = False

    kind: Literal["batch_norm"] = "batch_norm"


class GhostBatchNormSpec(BatchStatistics):
    """Ghost batch normalization (arXiv 1705.08741): statistics of parts of the batch; for large batches."""

    kind: Literal["ghost_batch_norm"] = "ghost_batch_norm"
    virtual_batch_size: int = Field(
        default=32,
        ge=1,
        le=65_536,
        description="At most so many examples share statistics; a batch is cut into equal parts, as few as that needs.",
    )

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        yield from super().batch_faults(place, batch)
        if self.virtual_batch_size * place.positions == 1:
            detail = f"Layer {place.layer} would see one value per channel in each virtual batch; use at least 2"
            yield Fault(place.own("virtual_batch_size"), detail, "one_value_per_virtual_batch")


class SyncBatchNormSpec(BatchStatistics):
    """Batch normalization over all processes of a run; with one process, as here, plain batch normalization."""

    kind: Literal["sync_batch_norm"] = "sync_batch_norm"


class FrozenBatchNormSpec(NormModel):
    """Batch normalization with fixed statistics, scale and shift; for networks that were trained before.

    For the library: every experiment starts from a new network, and refuses it.
    """

    kind: Literal["frozen_batch_norm"] = "frozen_batch_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")

    def faults(self, place: Place) -> Iterator[Fault]:
        detail = "An experiment starts from a new network: nothing to freeze yet; use none or batch_norm"
        yield Fault(place.own("kind"), detail, "nothing_to_freeze")


class NoisyBatchNormSpec(Noised, BatchStatistics):
    """Batch norm whose output is noised anew each step (arXiv 1805.11604, A.2.1): covariate shift made on purpose."""

    kind: Literal["noisy_batch_norm"] = "noisy_batch_norm"

    @property
    def has_scale(self) -> bool:
        # The noise is added behind it.
        return False


class LpBatchNormSpec(BatchStatistics):
    """Batch norm that divides by the mean l_p norm before centring (arXiv 1805.11604, section 3.3)."""

    kind: Literal["lp_batch_norm"] = "lp_batch_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the square of the norm.")
    p: Annotated[Literal[1, 2, "inf"], Integer] = Field(
        default=2, description="1: mean magnitude; 2: root mean square; inf: maximum."
    )

    def cancels_bias(self, channels: int) -> bool:
        # What it divides by has the constant in it.
        return False


class L1BatchNormSpec(BatchStatistics):
    """Batch norm with the mean absolute deviation in place of the standard deviation (arXiv 1803.01814)."""

    kind: Literal["l1_batch_norm"] = "l1_batch_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the square of the deviation.")


class DomainBatchNormSpec(BatchStatistics):
    """Batch norm with statistics of their own for each domain of the data (arXiv 1603.04779)."""

    kind: Literal["domain_batch_norm"] = "domain_batch_norm"
    num_domains: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Sets of statistics; scale and shift are shared. More than the data set has domains are refused.",
    )

    def faults(self, place: Place) -> Iterator[Fault]:
        if self.num_domains > 1:
            detail = "The data set is a single domain: the other statistics would never be used; use 1"
            yield Fault(place.own("num_domains"), detail, "one_domain_only")


class CrossIterationBatchNormSpec(BatchStatistics):
    """Cross-iteration batch norm (arXiv 2002.05712): statistics of several batches, moved with the weights.

    Needs the placement before_activation.
    """

    state_field: ClassVar[str] = "window"
    state_cure: ClassVar[str] = "a shorter window"

    kind: Literal["cross_iteration_batch_norm"] = "cross_iteration_batch_norm"
    window: int = Field(default=4, ge=1, le=64, description="Batches whose statistics count, this one included.")

    def cancels_bias(self, channels: int) -> bool:
        # The means of earlier batches stay what they were.
        return self.window == 1

    def faults(self, place: Place) -> Iterator[Fault]:
        if place.placement != "before_activation":
            detail = "It follows the weights right in front of it; use before_activation"
            yield Fault(place.placement_pointer, detail, "weights_not_in_front")
        elif place.fan_in == 0:
            detail = f"It follows the weights right in front of it, and {place.layer} has none there; use batch_norm"
            yield Fault(place.own("kind"), detail, "weights_not_in_front")

    def state(self, place: Place) -> int:
        return (self.window - 1) * ((2 * place.channels + 1) * place.fan_in + 3 * place.channels)


class MaskedBatchNormSpec(BatchStatistics):
    """Batch norm that leaves padded positions out of the statistics.

    For data sets of sequences of different lengths, where batch_norm is the same; refused where nothing is padded.
    """

    counts_padding: ClassVar[bool] = False

    kind: Literal["masked_batch_norm"] = "masked_batch_norm"

    def faults(self, place: Place) -> Iterator[Fault]:
        if place.padded:
            return
        detail = "Nothing in this data set is padded: there is no mask; use batch_norm"
        yield Fault(place.own("kind"), detail, "nothing_to_mask")
