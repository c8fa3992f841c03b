"""Which examples of a part come together, as often as they are gone through.

Invariant: an order is a function of what is asked and of the data, on every machine; examples are gathered batch by
batch, and the part itself stays where it is.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from bncore.data import Examples, Part
from bncore.seeds import derive_seed
from bncore.spec.evaluation import InBatches


class Together:
    """As few batches of at most `batch_size` as there can be, none more than one example larger than another: of all
    examples, or, where no batch is to have two classes, of each class."""

    def __init__(self, examples: Part, asked: InBatches) -> None:
        self._examples = examples
        order = _order(examples, asked)
        if order is not None:
            order = order.to(examples.index_device)
        self._order = order
        sizes = [examples.size]
        if asked.order == "one_class":
            sizes = examples.all_targets().unique(return_counts=True)[1].tolist()
        self._ranges = [span for first, size in _runs(sizes) for span in _cut(first, size, asked.batch_size)]

    def __iter__(self) -> Iterator[Examples]:
        for first, end in self._ranges:
            if self._order is None:
                yield self._examples.slice(first, end)
            else:
                yield self._examples.gather(self._order[first:end])


def _runs(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Where each begins, one behind the other, and its size."""
    return zip(itertools.accumulate(sizes, initial=0), sizes, strict=False)


def _cut(first: int, count: int, most: int) -> Iterator[tuple[int, int]]:
    """From and up to which example."""
    parts = -(-count // most)
    return itertools.pairwise(first + count * part // parts for part in range(parts + 1))


def _order(examples: Part, asked: InBatches) -> Tensor | None:
    """Numbers of the examples; None for the order in which they are."""
    match asked.order:
        case "shuffled":
            generator = torch.Generator().manual_seed(derive_seed(asked.seed, "evaluation"))
            return torch.randperm(examples.size, generator=generator)
        case "by_class" | "one_class":
            return examples.all_targets().argsort(stable=True)
        case "stored":
            return None
