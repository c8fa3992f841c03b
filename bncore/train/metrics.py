"""Numbers of every step, kept on the device until a block of them is read at once.

Reading one number a step would make the processor wait for the GPU every step. Blocks that were read wait on the host
for the next write, because a line of JSON a step would cost more than some steps do.
"""

import itertools

import torch
from torch import Tensor

from bncore.events import MetricsBlock


class StepMetrics:
    """`train/loss`, `train/accuracy` and `lr` of consecutive steps."""

    def __init__(self, step: int) -> None:
        """`step` is the last step before the first that will be added."""
        self._losses: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._lrs: list[float] = []
        self._first_step = step + 1
        self._values: dict[str, list[float]] = {"train/loss": [], "train/accuracy": [], "lr": []}

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, lr: float) -> None:
        """Keep one step's numbers, without waiting for them."""
        self._losses.append(loss.detach())
        # Comparing and counting waits as well: two operations less a step, for a small network 1 % of its time.
        self._predicted.append(logits.detach().argmax(1))
        self._labels.append(labels)
        self._lrs.append(lr)

    def drain(self) -> tuple[int, list[float]]:
        """Read what the device still holds; the number of the first of those steps, and their losses."""
        first_step = self._first_step + len(self._values["lr"])
        if not self._losses:
            return first_step, []
        losses: list[float] = torch.stack(self._losses).double().tolist()
        self._values["train/loss"] += losses
        self._values["train/accuracy"] += self._accuracies()
        self._values["lr"] += self._lrs
        for kept in (self._losses, self._predicted, self._labels, self._lrs):
            kept.clear()
        return first_step, losses

    def take(self) -> MetricsBlock | None:
        """All that was drained and not yet taken, as one block."""
        count = len(self._values["lr"])
        if count == 0:
            return None
        block = MetricsBlock(first_step=self._first_step, count=count, values=self._values)
        self._first_step += count
        self._values = {key: [] for key in self._values}
        return block

    def _accuracies(self) -> list[float]:
        hits = torch.cat(self._predicted) == torch.cat(self._labels)
        ends = list(itertools.accumulate(len(labels) for labels in self._labels))
        # Hits up to the end of each batch; batches may differ in size.
        upto: list[int] = hits.cumsum(0)[torch.tensor(ends, device=hits.device) - 1].tolist()
        starts, before = [0, *ends], [0, *upto]
        return [(upto[i] - before[i]) / (ends[i] - starts[i]) for i in range(len(ends))]
