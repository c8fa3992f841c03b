"""Images, which a recurrent network reads as sequences where they have one channel."""

from abc import abstractmethod
from typing import Literal

from pydantic import Field

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.manifest import SignalSpec
from bncore.spec.data.shape import DataShape
from bncore.spec.data.validation import WithValidation
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

    def seen(self, signal: Signal) -> Signal:
        """What a network sees of such images; of what is no image, the same."""
        if self.as_ == "image" or signal.kind != "image":
            return signal
        _, height, width = signal.shape
        return Signal((height, width) if self.as_ == "row" else (height * width, 1), "sequence")

    def image_faults(self, signal: SignalSpec) -> list[tuple[str, str, str]]:
        """What is asked that these data cannot be."""
        if self.as_ != "image" and (signal.kind != "image" or signal.shape[0] != 1):
            return [
                ("/as", "Only images of one channel can be read as sequences; leave as at image", "not_one_channel")
            ]
        return []


class PixelsSpec(ImageOptions, WithValidation):
    """A set of square images with ten classes, as images or as sequences."""

    @abstractmethod
    def side(self) -> int:
        """Pixels of a row."""

    @abstractmethod
    def test_examples(self) -> int:
        """Examples of the fixed test part."""

    def shape(self) -> DataShape:
        """Signal and sizes."""
        held_out = self.held_out()
        return DataShape(
            signal=self.seen(Signal((1, self.side(), self.side()), "image")),
            outputs=10,
            train_examples=self.all_train_examples() - held_out,
            validation_examples=held_out,
            test_examples=self.test_examples(),
        )
