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
    """As few batches of at most `batch_size` as there can be, none more than one example larger than another."""

    def __init__(self, examples: Part, asked: InBatches) -> None:
        self._examples = examples
        count = examples.size
        parts = -(-count // asked.batch_size)
        ends = [count * part // parts for part in range(parts + 1)]
        order = _order(examples, asked)
        if order is not None:
            order = order.to(examples.index_device)
        self._order = order
        self._ranges = list(itertools.pairwise(ends))

    def __iter__(self) -> Iterator[Examples]:
        for first, end in self._ranges:
            if self._order is None:
                yield self._examples.slice(first, end)
            else:
                yield self._examples.gather(self._order[first:end])


def _order(examples: Part, asked: InBatches) -> Tensor | None:
    """Numbers of the examples; None for the order in which they are."""
    match asked.order:
        case "shuffled":
            generator = torch.Generator().manual_seed(derive_seed(asked.seed, "evaluation"))
            return torch.randperm(examples.size, generator=generator)
        case "by_class":
            return examples.all_targets().argsort(stable=True)
        case "stored":
            return None
