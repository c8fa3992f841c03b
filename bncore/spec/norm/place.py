"""What every normalization in a spec can say of itself without torch: its parameters, and where it cannot work.

A normalization that would erase its input, or that cannot be computed at all, is refused at the POST with a reason.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bncore.spec.faults import Fault
from bncore.spec.strict import SpecModel


@dataclass(frozen=True)
class Place:
    """A layer of a network that would be normalized, and where in the document each of its neighbours stands.

    `positions` are the values of one channel of one example; `fan_in` is the number of weights of one unit of the layer
    in front, 0 where there are none; `frames` are the steps of a sequence, each of which is normalized as an example;
    `width_pointer` names the field that holds the number of channels; `common_divisor` divides the channels of every
    layer with the same spec, and is 0 for a layer by itself.
    """

    layer: str
    channels: int
    positions: int
    fan_in: int
    activation: str
    placement: str
    common_divisor: int = 0
    pointer: str = ""
    """Of the normalization itself."""
    width_pointer: str = ""
    activation_pointer: str = ""
    placement_pointer: str = ""
    frames: int = 1
    padded: bool = False
    """Whether some of the frames may be padding."""

    def values(self, samples: int) -> int:
        """Values of one channel in a batch of so many examples."""
        return samples * self.frames * self.positions

    def fewest(self, samples: int) -> int:
        """The same where there may be less: a padded sequence may have a single step."""
        return samples * self.positions if self.padded else self.values(samples)

    def own(self, field: str) -> str:
        """The pointer to a field of the normalization."""
        return f"{self.pointer}/{field}"


@dataclass(frozen=True)
class BatchSize:
    """Examples in a batch, and how to say which batch is meant and what would help."""

    samples: int
    which: str
    cure: str
    pointer: str
    """To the field that holds it."""


class NormModel(SpecModel):
    """A member of the union. The defaults are those of a layer without parameters that works everywhere."""

    counts_padding: ClassVar[bool] = False
    """True where padding would change the output of valid steps, were the layer shown more than these."""

    has_layer: ClassVar[bool] = True
    """False for what normalizes the weights of the layer in front, or nothing."""

    has_running_statistics: ClassVar[bool] = False
    """Whether evaluation uses averages over the batches of training, in whose place others can be put."""

    health: ClassVar[tuple[str, ...]] = ("non_finite",)
    """What `norm_health` finds numbers for (`NormHealthSpec.greatest`)."""
    is_passed: ClassVar[bool] = True
    """Whether it is passed as a layer among the others, where what goes in and comes out can be seen; inside of a
    recurrent layer's steps it is not."""

    def parameters(self, channels: int) -> int:
        """Numbers that its layer learns for so many channels."""
        return 2 * channels if getattr(self, "affine", False) else 0

    @property
    def acts_on_weights(self) -> bool:
        """Whether it changes the weights of the layer in front."""
        return False

    def weight_parameters(self, units: int) -> int:
        """Numbers that it adds to the weights of a hidden layer with so many units."""
        return 0

    def state(self, place: Place) -> int:
        """Numbers that its layer keeps beside them, where they are more than a few a channel."""
        return 0

    state_field: ClassVar[str] = ""
    """What they grow with, where there are some, ..."""
    state_cure: ClassVar[str] = ""
    """... and what would be fewer."""

    momentum_field: ClassVar[str] = "momentum"
    """The weight of the newest batch in what evaluation uses, where there is one."""

    @property
    def name(self) -> str:
        """Its kind, of whichever union."""
        return str(type(self).model_fields["kind"].default)

    def cancels_bias(self, channels: int) -> bool:
        """Whether it takes out a constant that a layer in front adds to each channel of its output, in training."""
        return False

    @property
    def has_scale(self) -> bool:
        """Whether its layer has a learned factor per channel, `weight`, which would silence it at 0."""
        return bool(getattr(self, "affine", False))

    def initial_share(self, batches: int) -> float:
        """How much of what evaluation uses is still initial after so many batches."""
        return 0.0

    def faults(self, place: Place) -> Iterator[Fault]:
        """Why it cannot work there whatever the batch."""
        yield from ()

    def batch_faults(self, place: Place, batch: BatchSize) -> Iterator[Fault]:
        """Why it cannot work there with such a batch."""
        yield from ()


def group_faults(groups: int, place: Place) -> Iterator[Fault]:
    """Groups that do not divide the channels."""
    if place.channels % groups:
        common = math.gcd(place.channels, place.common_divisor)
        fits = [divisor for divisor in range(1, common + 1) if common % divisor == 0]
        if place.positions == 1 and len(fits) > 1:
            # Groups of one channel would have a single value.
            fits.pop()
        nearest = sorted(fits, key=lambda divisor: abs(divisor - groups))[:3]
        listed = ", ".join(str(divisor) for divisor in sorted(nearest))
        detail = f"{groups} groups do not divide the {place.channels} channels of layer {place.layer}; try {listed}"
        yield Fault(place.own("num_groups"), detail, "groups_do_not_divide")


def instance_faults(place: Place, cure: str = "it is for images") -> Iterator[Fault]:
    """Statistics of each channel of each example, where that is a single value."""
    if place.positions == 1:
        detail = f"Layer {place.layer} has one value per channel and example, which it would erase; {cure}"
        yield Fault(place.own("kind"), detail, "one_value_per_instance")


def own_activation_faults(place: Place) -> Iterator[Fault]:
    """A normalization that brings its activation along, in front of another one."""
    if place.activation != "identity":
        detail = "It is normalization and activation in one; set activation to identity"
        yield Fault(place.activation_pointer, detail, "two_activations")


_MORE_WEIGHTS = "use a larger kernel or patch, wider layers, or batch_norm"


def fan_in_faults(place: Place, field: str = "kind", cure: str = _MORE_WEIGHTS) -> Iterator[Fault]:
    """Weights without their mean, where each unit has a single one; `field` is the one that asks for it."""
    if place.fan_in == 1:
        detail = f"The units in front of {place.layer} have one weight each, 0 without its mean; {cure}"
        yield Fault(place.own(field), detail, "one_weight_per_unit")
