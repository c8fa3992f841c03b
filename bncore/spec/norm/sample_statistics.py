"""Normalizations that look at one example at a time, or at one value: the same in training and evaluation."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm.place import NormModel, Place, group_faults, instance_faults, own_activation_faults
from bncore.spec.strict import Count, Epsilon


class _Sample(NormModel):
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")
    affine: bool = Field(default=True, description="Learn a scale and a shift per channel.")


class LayerNormSpec(_Sample):
    """Layer normalization (arXiv 1607.06450): over all channels and positions of one sample; affine per channel."""

    kind: Literal["layer_norm"] = "layer_norm"

    def faults(self, place: Place) -> Iterator[Fault]:
        return _sample_faults(place)


class InstanceNormSpec(_Sample):
    """Instance normalization (arXiv 1607.08022): over the positions of each channel of one sample; for images.

    Not for mlp, whose channels have one value each.
    """

    kind: Literal["instance_norm"] = "instance_norm"

    def cancels_bias(self, channels: int) -> bool:
        return True

    def faults(self, place: Place) -> Iterator[Fault]:
        return instance_faults(place)


class GroupNormSpec(_Sample):
    """Group normalization (arXiv 1803.08494): over the positions and channels of each group of one sample."""

    kind: Literal["group_norm"] = "group_norm"
    num_groups: Count = Field(default=32, description="Must divide the channels of every normalized layer.")

    def cancels_bias(self, channels: int) -> bool:
        return self.num_groups == channels

    def faults(self, place: Place) -> Iterator[Fault]:
        return _group_statistics_faults(self.num_groups, place)


class RmsNormSpec(NormModel):
    """RMS normalization (arXiv 1910.07467): by the root mean square of one sample, without centring."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: Epsilon = Field(default=1e-6, description="Added to the mean square.")
    affine: bool = Field(default=True, description="Learn a scale per channel.")

    def parameters(self, channels: int) -> int:
        return channels if self.affine else 0

    def faults(self, place: Place) -> Iterator[Fault]:
        return _sample_faults(place)


class FilterResponseNormSpec(NormModel):
    """Filter response normalization with its thresholded activation (arXiv 1911.09737); for images.

    With threshold it needs the activation identity; in mlp, whose channels have one value each, it needs learn_eps.
    """

    kind: Literal["filter_response_norm"] = "filter_response_norm"
    eps: Epsilon = Field(default=1e-6, description="Added to the mean square.")
    learn_eps: bool = Field(default=False, description="Learn a number that is added to eps; for few positions.")
    threshold: bool = Field(default=True, description="End in max(y, tau) with a learned tau per channel: TLU.")

    @property
    def has_scale(self) -> bool:
        return True

    def parameters(self, channels: int) -> int:
        return (3 if self.threshold else 2) * channels + int(self.learn_eps)

    def faults(self, place: Place) -> Iterator[Fault]:
        if not self.learn_eps:
            yield from instance_faults(place, "use learn_eps, or a network for images")
        if self.threshold:
            yield from own_activation_faults(place)


class EvoNormS0Spec(NormModel):
    """EvoNorm-S0 (arXiv 2004.02967): normalization and activation in one, by groups of one sample.

    Needs the activation identity.
    """

    kind: Literal["evo_norm_s0"] = "evo_norm_s0"
    num_groups: Count = Field(default=32, description="Must divide the channels of every normalized layer.")
    eps: Epsilon = Field(default=1e-5, description="Added to the variance.")

    @property
    def has_scale(self) -> bool:
        return True

    def parameters(self, channels: int) -> int:
        return 3 * channels

    def faults(self, place: Place) -> Iterator[Fault]:
        yield from _group_statistics_faults(self.num_groups, place)
        yield from own_activation_faults(place)


class GlobalResponseNormSpec(NormModel):
    """Global response normalization (arXiv 2301.00808): channels compete by their energy; starts as the identity."""

    kind: Literal["global_response_norm"] = "global_response_norm"
    eps: Epsilon = Field(default=1e-6, description="Added to the mean over channels.")

    def parameters(self, channels: int) -> int:
        return 2 * channels


class DynamicTanhSpec(NormModel):
    """Dynamic tanh (arXiv 2503.10622): tanh(alpha x) with a learned alpha in place of a normalization."""

    kind: Literal["dynamic_tanh"] = "dynamic_tanh"
    alpha: float = Field(default=0.5, gt=0.0, le=100.0, description="Where the learned alpha starts.")
    affine: bool = Field(default=True, description="Learn a scale and a shift per channel.")

    def parameters(self, channels: int) -> int:
        return 1 + (2 * channels if self.affine else 0)


def _sample_faults(place: Place) -> Iterator[Fault]:
    if place.channels * place.positions == 1:
        detail = f"Layer {place.layer} would see one value per sample, and erase it"
        yield Fault(place.width_pointer, detail, "one_value_per_sample")


def _group_statistics_faults(groups: int, place: Place) -> Iterator[Fault]:
    yield from group_faults(groups, place)
    if place.channels == groups and place.positions == 1:
        cure, pointer = "use fewer groups", place.own("num_groups")
        if groups == 1:
            cure, pointer = "use more channels", place.width_pointer
        detail = f"Each group of layer {place.layer} would be a single value, and be erased; {cure}"
        yield Fault(pointer, detail, "one_value_per_group")
