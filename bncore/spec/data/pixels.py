"""Images, which a recurrent network reads as sequences where they have one channel."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import DataShape
from bncore.spec.data.shift import ShiftSpec
from bncore.spec.data.standardized import Standardized
from bncore.spec.data.training import Counts, TrainingPart
from bncore.spec.data.validation import shares
from bncore.spec.strict import SpecModel

Presentation = Literal["image", "row", "pixel", "permuted_pixel"]


class ImageOptions(SpecModel):
    """What can be asked of any set of images."""

    as_: Presentation = Field(
        default="image",
        alias="as",
        description="`row`: a step is a row of pixels, from the top. `pixel`: a step is a pixel, row by row (arXiv "
        "1504.00941, section 4.2). `permuted_pixel`: the same in one shuffled order, the same for all seeds. Images of "
        "one channel only.",
    )
    resize: Annotated[int, Field(ge=2, le=4096)] | None = Field(
        default=None,
        description="Pixels of a row and of a column, no more than there are: each is the average of the area that it "
        "covers, so that numbers stay between 0 and 1.",
    )
    shift: ShiftSpec | None = Field(default=None, description="How images differ from those of training.")

    def seen(self, signal: Signal) -> Signal:
        """What a network sees of such images; of what is no image, the same."""
        if signal.kind != "image":
            return signal
        channels, height, width = signal.shape
        if self.resize is not None:
            height = width = self.resize
        if self.as_ == "image":
            return Signal((channels, height, width), "image")
        return Signal((height, width) if self.as_ == "row" else (height * width, 1), "sequence")

    def image_faults(self, signal: Signal) -> list[tuple[str, str, str]]:
        """What is asked that these data cannot be."""
        is_image, faults = signal.kind == "image", []
        if self.as_ != "image" and (not is_image or signal.channels != 1):
            detail = "Only images of one channel can be read as sequences; leave as at image"
            faults.append(("/as", detail, "not_one_channel"))
        for name in ("resize", "shift"):
            if not is_image and getattr(self, name) is not None:
                faults.append((f"/{name}", f"Is for images, and an example of these data is {signal}", "no_images"))
        if is_image and self.resize is not None and self.resize > min(signal.shape[1:]):
            detail = f"Images of {signal.dimensions} are not made larger; use at most {min(signal.shape[1:])}"
            faults.append(("/resize", detail, "larger_than_image"))
        return faults


class PixelsSpec(ImageOptions, Standardized, TrainingPart):
    """A set of square images with ten classes, as images or as sequences."""

    standardize: bool = Field(
        default=False, description="Subtract the mean and divide by the standard deviation of all training pixels."
    )

    @abstractmethod
    def side(self) -> int:
        """Pixels of a row."""

    @abstractmethod
    def test_examples(self) -> int:
        """Examples of the fixed test part."""

    @abstractmethod
    def class_sizes(self) -> Counts:
        """Examples of each class in both parts together."""

    def all_class_counts(self) -> Counts:
        return tuple(shares(self.class_sizes(), self.all_train_examples()))

    def shape(self) -> DataShape:
        """Signal and sizes."""
        return DataShape(
            signal=self.seen(self._signal()),
            outputs=10,
            train_examples=self.train_examples(),
            validation_examples=self.held_out(),
            test_examples=self.test_examples(),
            class_counts=self.class_counts(),
            whole_batches=self.sampler.whole_batches,
        )

    def _signal(self) -> Signal:
        return Signal((1, self.side(), self.side()), "image")

    @model_validator(mode="after")
    def _can_be_seen_so(self) -> "PixelsSpec":
        faults = self.image_faults(self._signal())
        if faults:
            raise PydanticCustomError("cross_field", "images", {"faults": faults})
        return self
