"""Batches as a pure function of the step.

The order of an epoch depends on the seed and the epoch's number only, and what is done to a batch on the seed and the
step. A run resumed at any step therefore sees the batches it would have seen, with nothing to restore but the step.
"""

from collections.abc import Sequence

from torch import Tensor

from bncore.data.augmentation import augmented
from bncore.data.dataset import Examples, Part
from bncore.data.sampling import order_of
from bncore.spec.data.augment import AugmentSpec
from bncore.spec.data.sampler import SamplerSpec, ShuffledSampler


class Batches:
    """The batches of steps 1, 2, 3, ...: without another `sampler`, every epoch visits each example once, in an order
    of its own.

    Examples stay where they are; a batch is gathered from there by index, and augmented. The last batch of an epoch is
    smaller where the examples do not divide evenly, or left out with `drop_last` and by samplers of whole batches.
    """

    def __init__(
        self,
        examples: Part,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        *,
        sampler: SamplerSpec | None = None,
        augment: Sequence[AugmentSpec] = (),
    ) -> None:
        count = examples.size
        if not 0 < batch_size <= count:
            raise ValueError(f"batch_size must be in 1 ... {count}, got {batch_size}")
        sampler = sampler or ShuffledSampler()
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment
        self._order_of = order_of(sampler, count, examples.all_targets, batch_size, seed)
        self.steps_per_epoch = count // batch_size if drop_last or sampler.whole_batches else -(-count // batch_size)
        self._epoch = -1
        self._order: Tensor | None = None

    def batch(self, step: int) -> Examples:
        """The examples of step `step`, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._order is None or epoch != self._epoch:
            self._order, self._epoch = self._placed(self._order_of(epoch)), epoch
        first = position * self._batch_size
        batch = self._examples.gather(self._order[first : first + self._batch_size])
        return augmented(batch, self._augment, self._seed, step) if self._augment else batch

    def _placed(self, order: Tensor) -> Tensor:
        if self._examples.index_device.type == "cuda":
            return order.pin_memory().to(self._examples.index_device, non_blocking=True)
        return order
