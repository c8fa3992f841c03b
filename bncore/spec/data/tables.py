"""Small tables of measurements, which come with the package."""

from abc import abstractmethod
from typing import Literal

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import DataShape
from bncore.spec.data.standardized import Standardized
from bncore.spec.data.training import Counts, TrainingPart
from bncore.spec.data.validation import shares


class TableSpec(Standardized, TrainingPart):
    """Vectors with a class, in one fixed split."""

    @abstractmethod
    def features(self) -> int:
        """Numbers of an example."""

    @abstractmethod
    def class_sizes(self) -> Counts:
        """Examples of each class in both parts together."""

    def all_class_counts(self) -> Counts:
        return tuple(shares(self.class_sizes(), self.all_train_examples()))

    def shape(self) -> DataShape:
        """Signal and sizes."""
        return DataShape(
            signal=Signal((self.features(),), "vector"),
            outputs=len(self.class_sizes()),
            train_examples=self.train_examples(),
            validation_examples=self.held_out(),
            test_examples=sum(self.class_sizes()) - self.all_train_examples(),
            class_counts=self.class_counts(),
            whole_batches=self.sampler.whole_batches,
        )


class WineSpec(TableSpec):
    """178 wines from three growers, 13 measurements of each; 120 to train and 58 to test, stratified by class.

    The split is fixed and does not depend on the seed.
    """

    kind: Literal["wine"] = "wine"

    def features(self) -> int:
        return 13

    def all_train_examples(self) -> int:
        return 120

    def class_sizes(self) -> Counts:
        return (59, 71, 48)


class BreastCancerSpec(TableSpec):
    """569 tumours, malignant (class 0) or benign, 30 measurements of each; 380 to train and 189 to test, stratified by
    class.

    The split is fixed and does not depend on the seed.
    """

    kind: Literal["breast_cancer"] = "breast_cancer"

    def features(self) -> int:
        return 30

    def all_train_examples(self) -> int:
        return 380

    def class_sizes(self) -> Counts:
        return (212, 357)
