"""Small digits, which come with the package."""

from typing import Literal

from bncore.spec.data.pixels import PixelsSpec


class DigitsSpec(PixelsSpec):
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels divided by 16.

    1,200 to train and 597 to test, stratified by class; the split is fixed and does not depend on the seed.
    """

    kind: Literal["digits"] = "digits"

    def side(self) -> int:
        return 8

    def all_train_examples(self) -> int:
        return 1200

    def test_examples(self) -> int:
        return 597

    def class_sizes(self) -> tuple[int, ...]:
        return (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
