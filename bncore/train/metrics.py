"""Numbers of every step, kept on the device until a block of them is read at once.

Reading one number a step would make the processor wait for the GPU every step. Blocks that were read wait on the host
for the next write, because a line of JSON a step would cost more than some steps do.
"""

import torch
from torch import Tensor

from bncore.events import MetricsBlock


class StepMetrics:
    """`train/loss`, `train/accuracy` and `lr` of consecutive steps."""

    def __init__(self, step: int) -> None:
        """`step` is the last step before the first that will be added."""
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._sizes: list[int] = []
        self._lrs: list[float] = []
        self._first_step = step + 1
        self._values: dict[str, list[float]] = {"train/loss": [], "train/accuracy": [], "lr": []}

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, lr: float) -> None:
        """Keep one step's numbers, without waiting for them."""
        self._losses.append(loss.detach())
        self._correct.append((logits.detach().argmax(1) == labels).sum())
        self._sizes.append(len(labels))
        self._lrs.append(lr)

    def drain(self) -> tuple[int, list[float]]:
        """Read what the device still holds; the number of the first of those steps, and their losses."""
        first_step = self._first_step + len(self._values["lr"])
        if not self._losses:
            return first_step, []
        losses: list[float] = torch.stack(self._losses).double().tolist()
        correct: list[int] = torch.stack(self._correct).tolist()
        self._values["train/loss"] += losses
        self._values["train/accuracy"] += [right / size for right, size in zip(correct, self._sizes, strict=True)]
        self._values["lr"] += self._lrs
        for kept in (self._losses, self._correct, self._sizes, self._lrs):
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
