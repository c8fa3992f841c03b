"""What learns, as the loop sees it: it takes steps, is measured, saved, and restored.

Invariant: everything that decides the result is a function of the spec and the step, or is in what `write_weights` and
`write_state` write. To measure and to save leaves no trace.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from bncore.recording import Recording
from bncore.spec.diagnostics import DiagnosticSpec
from bncore.train.checkpoint import HostState
from bncore.train.task import Kept, Task


class Stepped(NamedTuple):
    """One training step: its loss, on the device and without a graph, what its metrics are made of, and its rate."""

    loss: Tensor
    kept: Kept
    lr: float


class Found(NamedTuple):
    """What a diagnostic found, and what of it is wrong, in sentences."""

    recording: Recording
    warnings: tuple[str, ...] = ()


class Learner(Protocol):
    """One model or several that are trained by one loop."""

    @property
    def task(self) -> Task:
        """What it learns."""

    def take_step(self, step: int) -> Stepped:
        """Train step `step`, counted from 1: steps come in their order."""

    def wait(self) -> None:
        """Until the device has done what it was told."""

    def evaluate(self) -> dict[str, float]:
        """Of every evaluated series, its value now."""

    def diagnose(self, asked: DiagnosticSpec, step: int, evaluated: Mapping[str, float], *, at_end: bool) -> Found:
        """Measure what is asked after that many steps; `at_end`, what belongs to the end of training, too.

        `evaluated` is what `evaluate` said after these steps; empty where nobody asked.
        """

    def write_weights(self, path: Path, step: int) -> None:
        """Write what others can use of it."""

    def write_state(self, path: Path, host: HostState) -> None:
        """Write what training needs beside that to go on as if it had not stopped."""

    def begin_from(self, weights: Path) -> None:
        """Begin with the weights of a checkpoint, of the file `weights`, as the spec says in `start_from`.

        Raises `FileNotFoundError`, `CheckpointDamaged` and `CheckpointMismatch`.
        """

    def restore(self, weights: Path, state: Path) -> HostState:
        """Go on from what was written. Raises `CheckpointDamaged` and `CheckpointMismatch`."""
