"""Which examples a training step gets.

Invariant: that depends on `train.seed` and the step alone. An epoch is as many steps as a pass over the training
examples takes.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.data.shape import DataShape
from bncore.spec.strict import SpecModel
from bncore.spec.usual import usual

_DOUBT = 1e-12
"""Of a number of examples, more than double precision loses of a share of it."""


class ShuffledSampler(SpecModel):
    """Every epoch visits each example once, in an order of its own."""

    kind: Literal["shuffled"] = "shuffled"
    whole_batches: ClassVar[bool] = False
    """Whether an epoch has no smaller last batch."""


class BalancedClassesSampler(SpecModel):
    """As many examples of each class in a batch as of any other, or one more; the classes that have one more are drawn.

    A class gives its examples in an order of its own, and in a new one whenever it has given all. An epoch is as many
    whole batches as the training examples fill; small classes come more often than once in it.
    """

    kind: Literal["balanced_classes"] = "balanced_classes"
    whole_batches: ClassVar[bool] = True


class ClassesPerBatchSampler(SpecModel):
    """So many examples each of so many classes in a batch: batches that are not like one another (arXiv 1702.03275,
    section 4.3: 16 classes, 2 examples).

    The classes of a batch are drawn, and give their examples as in `balanced_classes`. `train.batch_size` is classes
    times examples. An epoch is as many whole batches as the training examples fill.
    """

    kind: Literal["classes_per_batch"] = "classes_per_batch"
    classes: int = Field(default=2, ge=1, le=65_536)
    examples: int = Field(default=30, ge=1, le=65_536, description="Of each class.")
    whole_batches: ClassVar[bool] = True


class ClassOrderedSampler(SpecModel):
    """Every epoch visits each example once: those of the first class, then those of the second, and so on.

    Within a class the order is another one in each epoch.
    """

    kind: Literal["class_ordered"] = "class_ordered"
    whole_batches: ClassVar[bool] = False


_Samplers = ShuffledSampler | BalancedClassesSampler | ClassesPerBatchSampler | ClassOrderedSampler
SamplerSpec = Annotated[_Samplers, Field(discriminator="kind"), usual(_Samplers, ShuffledSampler)]


class ImbalanceSpec(SpecModel):
    """Leave out training examples so that classes are of unlike sizes: class k of K keeps the share factor^(-k/(K-1)),
    rounded down and one at least (long-tailed as in arXiv 1901.05555): the first all, the last 1/factor.

    After examples were held out. Which ones stay depends on `seed` here and not on that of training.
    """

    factor: float = Field(default=10.0, gt=1.0, le=1e6)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)

    def kept(self, counts: Sequence[int]) -> list[int]:
        """How many of each class stay."""
        last = max(1, len(counts) - 1)
        return [min(count, max(1, self._share(count, place, last))) for place, count in enumerate(counts)]

    def _share(self, count: int, place: int, last: int) -> int:
        """count * factor^(-place / last), rounded down."""
        found: float = count * self.factor ** (-place / last)
        near = round(found)
        if abs(found - near) > _DOUBT * count:
            return int(found)
        # 343 / 49 is 6.999... in binary: whether it is less than 7 is decided by whole numbers.
        factor = Fraction(str(self.factor))
        is_there = near**last * factor.numerator**place <= count**last * factor.denominator**place
        return near if is_there else near - 1


def sampler_faults(sampler: SamplerSpec, sizes: DataShape, batch_size: int) -> Iterator[tuple[str, str, str]]:
    """What such data have no batches for: pointers from the spec, details and codes."""
    if isinstance(sampler, ShuffledSampler):
        return
    if sizes.task != "classification":
        detail = "An example of these data has no class of its own; use shuffled"
        yield "/data/sampler/kind", detail, "sampler_does_not_fit"
    elif isinstance(sampler, ClassesPerBatchSampler):
        classes = sizes.outputs if sizes.class_counts is None else sum(count > 0 for count in sizes.class_counts)
        if sampler.classes > classes:
            detail = f"The training examples are of {classes} classes; use at most that many"
            yield "/data/sampler/classes", detail, "too_many_classes"
        if sampler.classes * sampler.examples != batch_size:
            detail = f"The sampler makes batches of {sampler.classes * sampler.examples}; use that"
            yield "/train/batch_size", detail, "batch_is_not_the_samplers"
