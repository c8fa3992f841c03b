"""What can go wrong in the store, as codes and facts; what it means over HTTP is decided in `api.errors`.

StoreError
├── JobNotFound
│   ├── ExperimentNotFound
│   ├── DatasetNotFound
│   ├── EvaluationNotFound
│   └── PredictionNotFound
├── DatasetUnusable, DatasetInUse, DatasetDamaged
├── CheckpointNotFound, CheckpointDamaged
├── DiagnosticNotFound
├── FileNotFound, FileIncomplete, FileDamaged
├── KeyNotFound, KeyEnded, BeyondGrant
├── SweepNotFound, SweepChanged
├── StaleLease
├── IllegalTransition
├── VersionMismatch
├── QuotaExceeded
├── OwnerNotFound
├── IdempotencyConflict
└── CursorInvalid

Those of uploads are in `store.upload_errors`, of studies in `store.study_errors`. `EncodingUnfit` is none of them:
it is no refusal of a request, but a database that cannot be used.
"""

from collections.abc import Sequence
from typing import ClassVar

from bncore.spec import other_than
from store.jobs.states import State


class StoreError(Exception):
    """Something the store refuses to do."""

    code: ClassVar[str] = "store_error"


class JobNotFound(StoreError):
    """There is no such job, or it is somebody else's; each kind has a class of its own."""

    code = "job_not_found"
    noun: ClassVar[str] = "job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no {self.noun} {job_id}.")
        self.job_id = job_id


class ExperimentNotFound(JobNotFound):
    code = "experiment_not_found"
    noun = "experiment"


class DatasetNotFound(JobNotFound):
    code = "dataset_not_found"
    noun = "data set"


class EvaluationNotFound(JobNotFound):
    code = "evaluation_not_found"
    noun = "evaluation"


class PredictionNotFound(JobNotFound):
    code = "prediction_not_found"
    noun = "prediction"


class DatasetUnusable(StoreError):
    """A job is to read it, and cannot: it is not there, somebody else's, or its import has not succeeded."""

    code = "dataset_unusable"

    def __init__(self, dataset_id: str, state: State | None, called: Sequence[str] = ()) -> None:
        why = "There is no such data set of yours" if state is None else f"Its import is {state.value}, not succeeded"
        is_name = f"That is a name; {'its id is' if len(called) == 1 else 'ids of that name are'} {', '.join(called)}"
        super().__init__(is_name if called else f"{why}; `bnlab dataset list` shows those that there are")
        self.dataset_id = dataset_id


class DatasetInUse(StoreError):
    """Jobs read it; `used_by` names some of them."""

    code = "dataset_in_use"

    def __init__(self, used_by: Sequence[str]) -> None:
        super().__init__(f"It is used by {', '.join(used_by)}; delete what uses it first.")
        self.used_by = list(used_by)


class DatasetDamaged(StoreError):
    """The files of a data set are not those that it is known by."""

    code = "dataset_damaged"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"What is stored of {dataset_id} is not what it was when it was imported.")
        self.dataset_id = dataset_id


class CheckpointNotFound(StoreError):
    code = "checkpoint_not_found"

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__("There is no such checkpoint, or no such file in it.")
        self.checkpoint_id = checkpoint_id


class CheckpointDamaged(StoreError):
    """What is stored of a checkpoint is not what was announced."""

    code = "checkpoint_damaged"

    def __init__(self, checkpoint_id: str, file: str, why: str) -> None:
        super().__init__(f"{file} of this checkpoint is damaged: {why}.")
        self.checkpoint_id = checkpoint_id
        self.file = file


class DiagnosticNotFound(StoreError):
    """A diagnostic that was not measured, or not at that step; `steps` are some that are near, where there are any."""

    code = "diagnostic_not_found"

    def __init__(self, kind: str, step: int | None, steps: Sequence[int]) -> None:
        listed = ", ".join(map(str, steps))
        asking = other_than("diagnostics", kind) or "ask for it under `diagnostics` of a spec."
        there = f"near are those of {listed}." if steps else asking
        of = "" if step is None else f" of step {step}"
        super().__init__(f"There is no {kind}{of}; {there}")
        self.kind = kind
        self.step = step
        self.steps = list(steps)


class FileNotFound(StoreError):
    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__("There is no such file.")
        self.file_id = file_id


class FileIncomplete(StoreError):
    """The chunks of a file do not add up to its announced size, so it stays invisible."""

    code = "file_incomplete"

    def __init__(self, file_id: str, expected_bytes: int, stored_bytes: int) -> None:
        super().__init__(f"It should have {expected_bytes} bytes and has {stored_bytes}.")
        self.file_id = file_id
        self.expected_bytes = expected_bytes
        self.stored_bytes = stored_bytes


class FileDamaged(StoreError):
    """What is stored of a file is not what was announced."""

    code = "file_damaged"

    def __init__(self, file_id: str, why: str) -> None:
        super().__init__(f"This file is damaged: {why}.")
        self.file_id = file_id
        self.why = why


class KeyNotFound(StoreError):
    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__("There is no such API key.")
        self.key_id = key_id


class KeyEnded(StoreError):
    code = "key_ended"

    def __init__(self, key_id: str) -> None:
        super().__init__("This API key was revoked or has expired.")
        self.key_id = key_id


class BeyondGrant(StoreError):
    """Somebody would hand out, or take away, what their own key does not have."""

    code = "beyond_grant"

    def __init__(self, scope: str) -> None:
        super().__init__(f"It takes the scope `{scope}`, which this API key lacks.")
        self.scope = scope


class SweepNotFound(StoreError):
    code = "sweep_not_found"

    def __init__(self, sweep_id: str) -> None:
        super().__init__("There is no such sweep.")
        self.sweep_id = sweep_id


class SweepChanged(StoreError):
    """Somebody else extended it at this moment."""

    code = "sweep_changed"

    def __init__(self, sweep_id: str) -> None:
        super().__init__("It got other seeds meanwhile: look at it again.")
        self.sweep_id = sweep_id


class StaleLease(StoreError):
    """The job belongs to somebody else by now, or to nobody; whatever the holder does is lost."""

    code = "stale_lease"

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} no longer holds {job_id}.")
        self.job_id = job_id
        self.attempt = attempt


class IllegalTransition(StoreError):
    """The job is in a state that does not allow this; `allowed_actions` says what it does allow."""

    code = "illegal_transition"

    def __init__(
        self, state: State, allowed_actions: tuple[str, ...], cure: str = "", *, why: str | None = None
    ) -> None:
        """`why` says more than that it is in that state."""
        super().__init__(why or f"Not possible while it is {state.value}{f'; {cure}' if cure else ''}.")
        self.state = state
        self.allowed_actions = allowed_actions


class Pruned(IllegalTransition):
    """Its sweep has ended it, for good."""

    def __init__(self, message: str) -> None:
        why = f"{message} Its sweep goes on without it: clone it to train it to its end."
        super().__init__(State.CANCELLED, ("delete",), why=why)


class VersionMismatch(StoreError):
    """The row has another version than the one the wish was about."""

    code = "precondition_failed"

    def __init__(self, version: int) -> None:
        super().__init__("It has changed since: look at it again, and send the new ETag.")
        self.version = version


class QuotaExceeded(StoreError):
    """The owner has as much of something as one owner may have."""

    code = "quota_exceeded"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"Your limit of {limit} {what.replace('_', ' ')} is reached.")
        self.what = what
        self.limit = limit
        self.passes = what == "queued_jobs"
        """Whether waiting helps."""


class OwnerNotFound(StoreError):
    code = "owner_not_found"

    def __init__(self, owner: str) -> None:
        super().__init__("There is no such owner.")
        self.owner = owner


class IdempotencyConflict(StoreError):
    """The key was used within its lifetime with another request."""

    code = "idempotency_conflict"

    def __init__(self, key: str) -> None:
        super().__init__("This idempotency key was used for another request.")
        self.key = key


class CursorInvalid(StoreError):
    """The cursor is not one of ours, or belongs to other filters or another order."""

    code = "cursor_invalid"

    def __init__(self, detail: str = "The cursor is malformed or belongs to other filters.") -> None:
        super().__init__(detail)


class EncodingUnfit(Exception):
    """A PostgreSQL database whose text is not Unicode: it would refuse names, or count their bytes."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"The database's encoding is {encoding}; make one with ENCODING 'UTF8'.")
