"""Batches as a pure function of the step.

The order of an epoch depends on the seed and the epoch's number only. A run resumed at any step therefore sees the
batches it would have seen, with nothing to restore but the step.
"""

import torch
from torch import Tensor

from bncore.data.dataset import Examples, Part
from bncore.seeds import derive_seed


class Batches:
    """The batches of steps 1, 2, 3, ...: every epoch visits each example once, in an order of its own.

    Examples stay where they are; a batch is gathered from there by index. The last batch of an epoch is smaller
    where the examples do not divide evenly, or left out with `drop_last`.
    """

    def __init__(self, examples: Part, batch_size: int, seed: int, drop_last: bool = False) -> None:
        count = examples.size
        if not 0 < batch_size <= count:
            raise ValueError(f"batch_size must be in 1 ... {count}, got {batch_size}")
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self.steps_per_epoch = count // batch_size if drop_last else -(-count // batch_size)
        self._epoch = -1
        self._order: list[Tensor] = []

    def batch(self, step: int) -> Examples:
        """The examples of step `step`, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            order, size = self._shuffle(epoch), self._batch_size
            self._order = [order[first : first + size] for first in range(0, len(order), size)]
            self._epoch = epoch
        return self._examples.gather(self._order[position])

    def _shuffle(self, epoch: int) -> Tensor:
        # Drawn on the CPU, so that the order is the same on every device.
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
        order = torch.randperm(self._examples.size, generator=generator)
        if self._examples.index_device.type == "cuda":
            return order.pin_memory().to(self._examples.index_device, non_blocking=True)
        return order
