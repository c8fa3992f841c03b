"""What a trainer and whoever watches it agree on: the files of a run directory, and how the process ends.

Invariant: every name and exit code stands here and nowhere else, and one file says what is to be done (`kind`). Nothing
of torch is imported: both sides import this.
"""

from pathlib import Path
from typing import Literal

JobKind = Literal["experiment", "dataset", "evaluation", "prediction", "study"]
"""What a run directory asks for: to train an experiment, to import a data set, to evaluate a checkpoint or to predict
with it, which stands in the same file, to take a study one stage further."""

EXIT_DONE = 0
"""The run finished or was stopped; the last event says which."""
EXIT_FAILED = 1
"""The last event says why; without one, the log does."""
EXIT_USAGE = 2
"""A person asked for what cannot be done; nothing was begun."""
EXIT_BUSY = 73
"""Another trainer holds the lock, and went on holding it for as long as this one waited."""
EXIT_DISK_FULL = 74
"""The disk is full. There may have been no room for an event that says so."""
EXIT_ALONE = 75
"""Its supervisor is gone, or was silent for longer than it had allowed."""


class RunLayout:
    """The paths of one run directory; none of them need exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def asked(self, kind: JobKind) -> Path:
        """The file that says what to do, as JSON; written before the trainer is told of the directory."""
        match kind:
            case "experiment":
                return self.spec
            case "dataset":
                return self.import_
            case "evaluation" | "prediction":
                return self.evaluation
            case "study":
                return self.study

    @property
    def kind(self) -> JobKind:
        """What is asked for by the file that is there; without any, to train. Raises ValueError where two are."""
        kinds: tuple[JobKind, ...] = ("experiment", "dataset", "evaluation", "study")
        there = [kind for kind in kinds if self.asked(kind).exists()]
        if len(there) > 1:
            names = " and ".join(self.asked(kind).name for kind in there)
            raise ValueError(f"{self.path} has {names}; a run directory is for one job")
        return there[0] if there else "experiment"

    @property
    def spec(self) -> Path:
        """What to train."""
        return self.path / "spec.json"

    @property
    def rest(self) -> Path:
        """The step at which training is to rest, as JSON `{"step": N}`; without it there is none."""
        return self.path / "rest.json"

    @property
    def import_(self) -> Path:
        """Which data set to import from `source`."""
        return self.path / "import.json"

    @property
    def evaluation(self) -> Path:
        """How to evaluate `checkpoint`."""
        return self.path / "evaluation.json"

    @property
    def study(self) -> Path:
        """What a study asks, and what it has found so far."""
        return self.path / "study.json"

    @property
    def events(self) -> Path:
        """A line of `bncore.events` each; one counts once its newline is there."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the trainer prints."""
        return self.path / "trainer.log"

    @property
    def lock(self) -> Path:
        """Held by the trainer. A link to a lock shared by several directories keeps them from being trained at once."""
        return self.path / "lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by whoever made the directory."""
        return self.path / "supervisor.lock"

    @property
    def checkpoints(self) -> Path:
        """A file here is whole once it has its final name."""
        return self.path / "checkpoints"

    @property
    def restore(self) -> Path:
        """The checkpoint to go on from, if the run does not start at step 0."""
        return self.path / "restore"

    @property
    def restore_weights(self) -> Path:
        return self.restore / "weights.safetensors"

    @property
    def restore_state(self) -> Path:
        return self.restore / "state.safetensors"

    @property
    def files(self) -> Path:
        """Result files; one is whole once it has its final name."""
        return self.path / "files"

    @property
    def source(self) -> Path:
        """What is to be imported, as it was uploaded: one file."""
        return self.path / "source"

    @property
    def data(self) -> Path:
        """`<sha256>` in here is a data set in canonical form, or a link to one."""
        return self.path / "data"

    @property
    def checkpoint(self) -> Path:
        """A checkpoint to evaluate, or to start from."""
        return self.path / "checkpoint"

    @property
    def checkpoint_weights(self) -> Path:
        return self.checkpoint / "weights.safetensors"
