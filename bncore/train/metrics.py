"""Numbers of every step, kept on the device until a block of them is read at once.

Reading one number a step would make the processor wait for the GPU every step. Blocks that were read wait on the host
for the next write, because a line of JSON a step would cost more than some steps do.
"""

import torch
from torch import Tensor

from bncore.events import MetricsBlock
from bncore.train.learner import Stepped
from bncore.train.task import Kept, Task


class StepMetrics:
    """`train/loss`, the metrics of the task under `train/`, and `lr`, of consecutive steps."""

    def __init__(self, task: Task, step: int) -> None:
        """`step` is the last step before the first that will be added."""
        self._task = task
        self._losses: list[Tensor] = []
        self._kept: list[Kept] = []
        self._lrs: list[float] = []
        self._first_step = step + 1
        names = ("train/loss", *(f"train/{name}" for name in task.metrics), "lr")
        self._values: dict[str, list[float]] = {name: [] for name in names}

    def add(self, stepped: Stepped) -> None:
        """Keep one step's numbers, without waiting for them."""
        self._losses.append(stepped.loss)
        self._kept.append(stepped.kept)
        self._lrs.append(stepped.lr)

    def drain(self) -> tuple[int, list[float]]:
        """Read what the device still holds; the number of the first of those steps, and their losses."""
        first_step = self._first_step + len(self._values["lr"])
        if not self._losses:
            return first_step, []
        losses: list[float] = torch.stack(self._losses).double().tolist()
        self._values["train/loss"] += losses
        for name, values in self._task.read(self._kept).items():
            self._values[f"train/{name}"] += values
        self._values["lr"] += self._lrs
        for kept in (self._losses, self._kept, self._lrs):
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
