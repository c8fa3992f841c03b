"""Normalizations that also remove the correlation between channels."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm.batch_statistics import BatchStatistics
from bncore.spec.norm.place import BatchSize, Place, group_faults
from bncore.spec.strict import Count, Epsilon


class Whitening(BatchStatistics):
    """What they share: a covariance matrix for each group of channels, from more values than the group has channels."""

    state_field: ClassVar[str] = "num_groups"
    state_cure: ClassVar[str] = "more groups"
    # What it keeps is no variance of a channel.
    health: ClassVar[tuple[str, ...]] = ("gap", "mean_gap", "dead", "non_finite")

    eps: Epsilon = Field(default=1e-5, description="Added to the diagonal of the covariance.")
    num_groups: Count = Field(
        default=1,
        description="Whitens each group of channels by itself; must divide the channels of every layer. A group needs "
        "fewer channels than a batch has values per channel.",
    )

    def faults(self, place: Place) -> Iterator[Fault]:
        yield from group_faults(self.num_groups, place)

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        values, width = place.values(batch.samples), place.channels // self.num_groups
        if values <= width:
            detail = (
                f"Layer {place.layer} would take the covariance of {width} channels from {values} values in "
                f"{batch.which}; use more groups, or {batch.cure.removeprefix('use ')}"
            )
            yield Fault(place.own("num_groups"), detail, "covariance_is_singular")

    def state(self, place: Place) -> int:
        return place.channels * (place.channels // self.num_groups)


class DecorrelatedBatchNormSpec(Whitening):
    """Decorrelated batch normalization (arXiv 1804.08450): ZCA whitening by eigenvectors."""

    kind: Literal["decorrelated_batch_norm"] = "decorrelated_batch_norm"
    eps: Epsilon = Field(default=1e-3, description="Added to the eigenvalues.")


class IterNormSpec(Whitening):
    """Iterative normalization (arXiv 1904.03441): whitening by Newton's iteration."""

    kind: Literal["iter_norm"] = "iter_norm"
    iterations: int = Field(default=5, ge=1, le=20, description="T; with more, smaller eigenvalues are whitened too.")
