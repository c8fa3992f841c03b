"""What is done to the examples of each training step, and to no others.

Invariant: what is drawn depends on `train.seed`, the place in the list and the step, so that a resumed run draws it
again. Evaluation and precise statistics see the examples as they are.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from bncore.spec.data.shape import DataShape
from bncore.spec.strict import SpecModel
from bncore.spec.usual import usual

Pixels = Annotated[int, Field(ge=1, le=4096)]


class PadCropSpec(SpecModel):
    """Pad images with zeros on all sides, and cut out one of their own size at a place drawn for each example."""

    kind: Literal["pad_crop"] = "pad_crop"
    padding: Pixels = Field(default=4, description="Pixels; at most the smaller side.")


class FlipSpec(SpecModel):
    """Mirror an image with some probability."""

    kind: Literal["flip"] = "flip"
    direction: Literal["horizontal", "vertical"] = Field(default="horizontal", description="Left and right, or top.")
    probability: float = Field(default=0.5, gt=0.0, le=1.0)


class RotateSpec(SpecModel):
    """Rotate an image about its centre by an angle drawn evenly from both sides; bilinear, zeros from outside."""

    kind: Literal["rotate"] = "rotate"
    degrees: float = Field(default=15.0, gt=0.0, le=180.0, description="The greatest angle.")


class CutoutSpec(SpecModel):
    """Set a square of an image to zero whose centre is any pixel, as far as it lies inside (arXiv 1708.04552)."""

    kind: Literal["cutout"] = "cutout"
    size: Pixels = Field(default=8, description="Side of the square, in pixels; at most the larger side.")


class MixupSpec(SpecModel):
    """Replace each example by a mixture with another one of its batch, and its loss by that of the two losses.

    One share a step from Beta(alpha, alpha), of which the larger part counts as the example itself (arXiv 1710.09412):
    training accuracy is that of the larger part.
    """

    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(default=0.2, gt=0.0, le=100.0)


class NoiseSpec(SpecModel):
    """Add normal noise to every number, drawn on the device; padding of sequences stays 0."""

    kind: Literal["noise"] = "noise"
    std: float = Field(default=0.1, gt=0.0, le=100.0, description="In units of what the network sees.")


_Augmentations = PadCropSpec | FlipSpec | RotateSpec | CutoutSpec | MixupSpec | NoiseSpec
AugmentSpec = Annotated[_Augmentations, Field(discriminator="kind"), usual(_Augmentations)]

_OF_IMAGES = (PadCropSpec, FlipSpec, RotateSpec, CutoutSpec)


def augment_faults(augment: tuple[AugmentSpec, ...], sizes: DataShape) -> Iterator[tuple[str, str, str]]:
    """What cannot be done to such examples: pointers from `data`, details and codes."""
    for place, one in enumerate(augment):
        pointer = f"/augment/{place}"
        if isinstance(one, _OF_IMAGES) and sizes.signal.kind != "image":
            detail = f"Is for images, and an example of these data is {sizes.signal}; leave it out"
            yield f"{pointer}/kind", detail, "augmentation_does_not_fit"
        elif isinstance(one, PadCropSpec) and one.padding > min(sizes.signal.shape[1:]):
            detail = f"Of {sizes.signal}, at most {min(sizes.signal.shape[1:])}"
            yield f"{pointer}/padding", detail, "larger_than_image"
        elif isinstance(one, CutoutSpec) and one.size > max(sizes.signal.shape[1:]):
            yield f"{pointer}/size", f"Of {sizes.signal}, at most {max(sizes.signal.shape[1:])}", "larger_than_image"
        elif isinstance(one, MixupSpec):
            yield from _mixup_faults(pointer, [type(other) for other in augment[:place]], sizes)


def _mixup_faults(pointer: str, before: list[type[SpecModel]], sizes: DataShape) -> Iterator[tuple[str, str, str]]:
    if sizes.task == "tagging" or sizes.signal.lengths:
        detail = "Sequences with a label for each step, or of different lengths, cannot be mixed; leave it out"
        yield f"{pointer}/kind", detail, "augmentation_does_not_fit"
    elif MixupSpec in before:
        yield f"{pointer}/kind", "Examples are mixed once; leave it out", "repeated_mixup"
