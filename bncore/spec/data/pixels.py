"""Images of one channel, which a recurrent network reads as sequences."""

from abc import abstractmethod
from typing import Literal

from pydantic import Field

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import DataShape
from bncore.spec.data.validation import WithValidation

Presentation = Literal["image", "row", "pixel", "permuted_pixel"]


class PixelsSpec(WithValidation):
    """A set of square images with ten classes, as images or as sequences."""

    as_: Presentation = Field(
        default="image",
        alias="as",
        description="`row`: a step is a row of pixels, from the top. `pixel`: a step is a pixel, row by row (arXiv "
        "1504.00941, section 4.2). `permuted_pixel`: the same in one shuffled order, the same for all seeds.",
    )

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
            signal=self._signal(),
            outputs=10,
            train_examples=self.all_train_examples() - held_out,
            validation_examples=held_out,
            test_examples=self.test_examples(),
        )

    def _signal(self) -> Signal:
        side = self.side()
        match self.as_:
            case "image":
                return Signal((1, side, side), "image")
            case "row":
                return Signal((side, side), "sequence")
            case "pixel" | "permuted_pixel":
                return Signal((side * side, 1), "sequence")
