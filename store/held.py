"""Checkpoints that a job of the same owner needs: evaluated, or begun with.

Invariant: from its submission until it lets go, a job has a file of its own that refers to the checkpoint's weights:
whatever becomes of the experiment that made them, their bytes stay.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import files
from store.errors import CheckpointNotFound
from store.files import Announced
from store.jobs.conditions import owned_by
from store.tables import Checkpoint, Experiment

KIND = "held_checkpoint"
_PATH = "checkpoint/weights.safetensors"
"""In a run directory (`bncore.run_directory`)."""


def find(session: Session, owner: str, checkpoint_id: str) -> tuple[Checkpoint, Experiment]:
    """A checkpoint of the owner's that is there, and its experiment. Raises `CheckpointNotFound`."""
    there = (Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None))
    statement = (
        select(Checkpoint, Experiment)
        .join(Experiment, Experiment.id == Checkpoint.experiment_id)
        .where(Checkpoint.id == checkpoint_id, *there, *owned_by(owner))
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        raise CheckpointNotFound(checkpoint_id)
    return found[0], found[1]


def hold(session: Session, owner: str, job_id: str, checkpoint: Checkpoint) -> None:
    """Have a job refer to the weights of a checkpoint of its owner. Raises `CheckpointNotFound` where they are gone."""
    weights = checkpoint.weights
    announced = Announced("weights.safetensors", KIND, checkpoint.step, weights.size, weights.sha256)
    if not files.announce(session, owner, job_id, announced).whole:
        # Found damaged meanwhile: nobody may refer to those bytes any more.
        raise CheckpointNotFound(checkpoint.id)


def inputs(session: Session, job_id: str) -> dict[str, tuple[str, ...]]:
    """Where what the job holds has to lie in its run directory, and the file it is; nothing where it holds none."""
    found = _of(session, job_id)
    return {_PATH: (found[0],)} if found else {}


def let_go(session: Session, job_id: str) -> None:
    """The job needs it no more."""
    files.drop(session, _of(session, job_id))


def _of(session: Session, job_id: str) -> list[str]:
    return [file.id for file in files.of_job(session, job_id) if file.kind == KIND]
