"""The order of the training examples of an epoch, a function of the seed and the epoch's number.

Shapes: N examples, S steps of an epoch, B examples of a batch, K classes.
"""

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor

from bncore.data.dataset import InvalidData
from bncore.seeds import derive_seed
from bncore.spec.data.sampler import (
    BalancedClassesSampler,
    ClassesPerBatchSampler,
    ClassOrderedSampler,
    SamplerSpec,
    ShuffledSampler,
)

Order = Callable[[int], Tensor]
"""Of an epoch, counted from 0, the numbers of its examples, in one batch after the other; on the CPU, so that they are
the same on every device."""


_STEPS = 256
"""For so many at a time classes are drawn."""


def order_of(sampler: SamplerSpec, size: int, labels: Callable[[], Tensor], batch_size: int, seed: int) -> Order:
    """That of a sampler over `size` examples, whose classes are asked for where they matter.

    Raises `InvalidData` for fewer classes than a batch is to have.
    """
    match sampler:
        case ShuffledSampler():
            return lambda epoch: torch.randperm(size, generator=_stream(seed, epoch))
        case ClassOrderedSampler():
            known = labels().cpu()
            return lambda epoch: _by_class(known, _stream(seed, epoch))
        case BalancedClassesSampler():
            return _Classes(labels().cpu(), batch_size, seed, None)
        case ClassesPerBatchSampler():
            return _Classes(labels().cpu(), batch_size, seed, sampler)
        case _:
            assert_never(sampler)


def _stream(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "order", epoch))


def _by_class(labels: Tensor, stream: torch.Generator) -> Tensor:
    shuffled = torch.randperm(len(labels), generator=stream)
    return shuffled[labels[shuffled].argsort(stable=True)]


class _Classes:
    """Whole batches whose classes are chosen first, and their examples then."""

    def __init__(self, labels: Tensor, batch_size: int, seed: int, sampler: ClassesPerBatchSampler | None) -> None:
        self._sizes = torch.bincount(labels)
        self._present = self._sizes.nonzero().flatten()
        # The examples of each class, one class after the other.
        self._members = torch.split(labels.argsort(stable=True), self._sizes.tolist())
        self._shape = (len(labels) // batch_size, batch_size)
        self._seed, self._sampler = seed, sampler
        if sampler is not None and sampler.classes > len(self._present):
            raise InvalidData(f"a batch is to be of {sampler.classes} classes, and there are {len(self._present)}")

    def __call__(self, epoch: int) -> Tensor:
        stream = _stream(self._seed, epoch)
        slots = self._slots(stream).flatten()
        # Places of each class, in the order of the steps.
        places = slots.argsort(stable=True)
        wanted = torch.bincount(slots, minlength=len(self._sizes)).tolist()
        given = [self._given(members, count, stream) for members, count in zip(self._members, wanted, strict=True)]
        return torch.empty_like(slots).index_copy_(0, places, torch.cat(given))

    def _slots(self, stream: torch.Generator) -> Tensor:
        """The class of each example of each batch, (S, B), shuffled within a batch: micro-batches are alike then."""
        steps, size = self._shape
        count = len(self._present)
        if self._sampler is None:
            every = torch.arange(count).repeat(size // count).expand(steps, -1)
            chosen = torch.cat([every, self._drawn(size % count, stream)], 1)
        else:
            chosen = self._drawn(self._sampler.classes, stream).repeat_interleave(self._sampler.examples, 1)
        within = torch.rand(steps, size, generator=stream).argsort(1)
        return self._present[chosen.gather(1, within)]

    def _drawn(self, wanted: int, stream: torch.Generator) -> Tensor:
        """Places of so many different classes for each step, (S, wanted)."""
        count, steps = len(self._present), self._shape[0]
        # In pieces: a long epoch of many classes would be a large matrix.
        pieces = [min(_STEPS, steps - first) for first in range(0, steps, _STEPS)]
        return torch.cat(
            [torch.rand(piece, count, generator=stream).argsort(1)[:, :wanted].clone() for piece in pieces]
        )

    @staticmethod
    def _given(members: Tensor, count: int, stream: torch.Generator) -> Tensor:
        """So many of a class: all of them in one order after another, from the first on in each epoch."""
        passes = -(-count // len(members)) if count else 0
        orders = [members[torch.randperm(len(members), generator=stream)] for _ in range(passes)]
        return torch.cat(orders)[:count] if orders else members[:0]
