"""Normalizations that mix statistics of the batch with those of single samples or of the past."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm.batch_statistics import BatchStatistics, Momentum, RunningStatistics
from bncore.spec.norm.cold_start import initial_share
from bncore.spec.norm.place import BatchSize, NormModel, Place, fan_in_faults, instance_faults, own_activation_faults
from bncore.spec.strict import Epsilon

_WITHOUT_MEANS = ("gap", "variance_gap", "variance_drift", "dead", "non_finite")
"""What `norm_health` finds of a layer that keeps quadratic means alone."""


class BatchInstanceNormSpec(BatchStatistics):
    """Batch-instance normalization (arXiv 1805.07925): a learned gate per channel between the two; for images.

    Not for mlp, whose channels have one value each.
    """

    kind: Literal["batch_instance_norm"] = "batch_instance_norm"

    def parameters(self, channels: int) -> int:
        return channels + super().parameters(channels)

    def faults(self, place: Place) -> Iterator[Fault]:
        return instance_faults(place)


class SwitchableNormSpec(BatchStatistics):
    """Switchable normalization (arXiv 1806.10779): a learned mixture of instance, layer and batch; for images.

    Not for mlp, whose channels have one value each.
    """

    kind: Literal["switchable_norm"] = "switchable_norm"

    def cancels_bias(self, channels: int) -> bool:
        # Layer normalization's share of the mean is over all channels.
        return False

    def parameters(self, channels: int) -> int:
        return 6 + super().parameters(channels)

    def faults(self, place: Place) -> Iterator[Fault]:
        return instance_faults(place)


class EvoNormB0Spec(RunningStatistics):
    """EvoNorm-B0 (arXiv 2004.02967): normalization and activation in one, by the batch or by the instance.

    Needs the activation identity.
    """

    kind: Literal["evo_norm_b0"] = "evo_norm_b0"

    @property
    def has_scale(self) -> bool:
        return True

    def parameters(self, channels: int) -> int:
        return 3 * channels

    def faults(self, place: Place) -> Iterator[Fault]:
        return own_activation_faults(place)


class MovingAverageBatchNormSpec(BatchStatistics):
    """Moving average batch normalization (arXiv 2001.06838): running statistics in training, forwards and backwards."""

    state_field: ClassVar[str] = "window"
    state_cure: ClassVar[str] = "a shorter window"
    health: ClassVar[tuple[str, ...]] = _WITHOUT_MEANS

    kind: Literal["moving_average_batch_norm"] = "moving_average_batch_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the quadratic mean.")
    momentum: Momentum = Field(default=0.02, description="Weight of the newest batch in the running quadratic mean.")
    window: int = Field(default=16, ge=1, le=1024, description="Batches whose plain averages stand in.")
    r_max: float = Field(default=5.0, ge=1.0, le=1e6, description="Bound of the correction between both averages.")
    warmup_steps: int = Field(default=100, ge=0, le=100_000_000, description="Steps by the batch's own statistics.")
    r_warmup_steps: int = Field(
        default=1000, ge=0, le=100_000_000, description="Steps before r may differ from 1; warmup_steps at least."
    )
    center_weights: bool = Field(
        default=True, description="Centre the weights of each unit in front, as the paper does."
    )

    def cancels_bias(self, channels: int) -> bool:
        # It divides, and leaves the mean of activations alone.
        return False

    @property
    def acts_on_weights(self) -> bool:
        return self.center_weights

    def faults(self, place: Place) -> Iterator[Fault]:
        if self.center_weights:
            yield from fan_in_faults(place, "center_weights", "set it to false")

    def state(self, place: Place) -> int:
        return 2 * self.window * place.channels


class PowerNormSpec(NormModel):
    """Power normalization (arXiv 2003.07845): by a running quadratic mean, without centring."""

    counts_padding: ClassVar[bool] = True
    has_running_statistics: ClassVar[bool] = True
    health: ClassVar[tuple[str, ...]] = _WITHOUT_MEANS

    kind: Literal["power_norm"] = "power_norm"
    eps: Epsilon = Field(default=1e-5, description="Added to the quadratic mean.")
    forward_momentum: Momentum = Field(default=0.1, description="Weight of the newest batch in the quadratic mean.")
    backward_momentum: Momentum = Field(default=0.1, description="Weight of the newest batch in the gradient's mean.")
    warmup_steps: int = Field(
        default=10_000,
        ge=0,
        le=100_000_000,
        description="Steps by the batch's own quadratic mean, before the running one takes over; 10,000 in the "
        "authors' code. A run that is no longer is the warm-up alone.",
    )
    affine: bool = Field(default=True, description="Learn a scale and a shift per channel.")
    momentum_field: ClassVar[str] = "forward_momentum"

    def initial_share(self, batches: int) -> float:
        return initial_share(self.forward_momentum, batches)

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        if self.warmup_steps > 0 and place.fewest(batch.samples) == 1:
            detail = (
                f"Layer {place.layer} (power_norm) would see one value per channel in {batch.which}, and keep its sign "
                f"alone during warm-up; {batch.cure}, or 0 warmup_steps"
            )
            yield Fault(batch.pointer, detail, "one_value_per_channel")
