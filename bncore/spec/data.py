"""Which data set. Sizes stand here because a spec is checked where the data are not."""

from typing import Literal

from bncore.spec.blueprint.signal import Signal
from bncore.spec.strict import SpecModel


class DigitsSpec(SpecModel):
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels divided by 16.

    1,200 to train and 597 to test, stratified by class; the split is fixed and does not depend on the seed.
    """

    kind: Literal["digits"] = "digits"


DataSpec = DigitsSpec


class DataShape:
    """Sizes of a data set: `input_shape` is (channels, height, width)."""

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, train_examples: int, test_examples: int
    ) -> None:
        self.input_shape = input_shape
        self.signal = Signal(input_shape, "image")
        self.classes = classes
        self.train_examples = train_examples
        self.test_examples = test_examples


def data_shape(data: DataSpec) -> DataShape:
    """The sizes of the data set that `data` names."""
    match data:
        case DigitsSpec():
            return DataShape(input_shape=(1, 8, 8), classes=10, train_examples=1200, test_examples=597)
