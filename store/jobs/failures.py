"""Why attempts fail, and what follows: the one place that knows the codes.

Invariant: a failure that another try would repeat is final; one that came from outside is a restart, and counted; one
that is the fault of the machine alone waits and is not counted.
"""

from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """What follows a failure."""

    FINAL = "final"
    RESTART = "restart"
    WAIT = "wait"


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended: a code for programs, a message for people."""

    code: str
    message: str

    @property
    def remedy(self) -> Remedy:
        """What follows; a code that is not in the table is final."""
        known = CODES.get(self.code)
        return Remedy.FINAL if known is None else known.remedy


@dataclass(frozen=True)
class Code:
    """A code's meaning, in words for the API's readers."""

    remedy: Remedy
    meaning: str


PRUNED = "pruned"
"""The code of what was cancelled by no wish."""
QUOTA = "quota"
"""The code of what lacked room for its checkpoints: it says nothing of what was trained."""
WAIT_SECONDS = 30.0
"""How long a job rests after a failure of its machine, before any worker takes it."""

CODES: dict[str, Code] = {
    "invalid_data": Code(Remedy.FINAL, "the data cannot be used"),
    "out_of_memory": Code(Remedy.FINAL, "the GPU's memory does not suffice"),
    "trainer_error": Code(Remedy.FINAL, "an exception in training, which another try would repeat"),
    "study_incomplete": Code(Remedy.FINAL, "an arm of the study has no results to be judged by"),
    "design_changed": Code(Remedy.FINAL, "the design of the study is another one in this version"),
    "studies_missing": Code(Remedy.FINAL, "SciPy is not installed where the worker runs"),
    "queue_full": Code(Remedy.WAIT, "its owner's queue has no room for the next experiments"),
    PRUNED: Code(Remedy.FINAL, "it fell behind the other points of its sweep, which ended it as `cancelled`"),
    "deadline": Code(Remedy.FINAL, "`deadline_seconds` have passed since the first start"),
    QUOTA: Code(Remedy.FINAL, "its owner has no room left for checkpoints"),
    "worker_lost": Code(Remedy.RESTART, "the worker vanished"),
    "trainer_killed": Code(Remedy.RESTART, "the trainer was killed by a signal"),
    "trainer_stalled": Code(Remedy.RESTART, "the trainer said nothing for `stall_seconds`"),
    "checkpoint_damaged": Code(Remedy.RESTART, "the checkpoint to go on from is not what was stored"),
    "disk_full": Code(Remedy.WAIT, "the worker's disk is full"),
    "trainer_not_started": Code(Remedy.WAIT, "trainers do not start on the worker's host"),
    "trainer_busy": Code(Remedy.WAIT, "the trainer of an earlier attempt has not ended yet"),
}
