"""What a job needs is not what was stored: it fails and says so, and nobody is given those bytes again."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from bncore.events import CheckpointSaved, StoredFile
from bncore.spec import load_spec
from store import checkpoints, evaluations, experiments, files, work
from store.columns import core
from store.database import Database
from store.datasets import completing, uploads
from store.datasets.uploads import Part, Wanted
from store.errors import CheckpointNotFound
from store.experiments import Submission
from store.jobs import leases
from store.jobs.leases import Terms, Worker
from store.queueing import Limits, Submitter
from store.tables import Content, ContentChunk, Job
from worker.attempt import Attempt, Workplace
from worker.device import Device
from worker.settings import WorkerSettings

CONTENT = b"what was brought"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OWNER = Submitter("own_1", "cpu")


def take(database: Database) -> work.Claim:
    with database.write() as session:
        claim = work.take(session, Worker("prc_1", "cpu", "m", "2"), Terms(60.0), leases.new_token())
    assert claim is not None
    return claim


def upload(database: Database) -> Any:
    """An upload of one part."""
    with database.write() as session:
        begun = uploads.begin(session, Wanted("n", "n.npz", {}, "f"), owner="own_1")
        part = Part(1, len(CONTENT), SHA256)
        _, file = uploads.begin_part(session, begun.id, part, owner="own_1", most_bytes=1000, owner_bytes=None)
        files.write_chunk_of(session, "own_1", file.file_id, 0, CONTENT)
        uploads.finish_part(
            session, begun.id, part, owner="own_1", file_id=file.file_id, digest=SHA256, most_bytes=1000
        )
    return begun


def bring(database: Database) -> None:
    """An import is queued."""
    begun = upload(database)
    with database.read() as session:
        parts = uploads.parts(session, begun.id)
    *_, whole = completing.put_together(database, parts)
    with database.write() as session:
        completing.complete(session, begun, whole, SHA256, device="cpu", limits=Limits())


def evaluate(database: Database) -> str:
    """An evaluation of a checkpoint with that content is queued; the checkpoint's experiment."""
    spec = load_spec({"train": {"steps": 10, "batch_size": 60}})
    with database.write() as session:
        job = experiments.submit(session, Submission.of(spec), owner="own_1", device="cpu")
    claim = take(database)
    weights = StoredFile(file="w", size=len(CONTENT), sha256=SHA256)
    event = CheckpointSaved(checkpoint_kind="best", step=3, epoch=0, weights=weights, state=None, metrics={})
    with database.write() as session:
        begun = checkpoints.begin(session, claim.lease, event)
        assert begun is not None
        files.write_chunk(session, claim.lease, begun.files["weights"].file_id, 0, CONTENT)
        checkpoints.complete(session, claim.lease, begun.id, {"weights": SHA256})
        work.finish(session, claim.lease, work.Succeeded("budget", {}))
    submit_evaluation(database, job.id)
    return job.id


def submit_evaluation(database: Database, experiment_id: str) -> None:
    asked = evaluations.Submission(experiment_id, "best", {"data": {"kind": "digits"}}, "f")
    with database.write() as session:
        evaluations.submit(session, asked, OWNER, Limits())


@pytest.mark.parametrize("kind", ["dataset", "evaluation"])
def test_it_fails_and_the_bytes_are_condemned(database: Database, tmp_path: Path, kind: str) -> None:
    experiment = bring(database) if kind == "dataset" else evaluate(database)
    with database.write() as session:
        session.execute(update(core(ContentChunk)).values(data=b"W" + CONTENT[1:]))
    claim = take(database)
    assert claim.kind == kind
    settings = WorkerSettings(
        database_url=database.engine.url.render_as_string(hide_password=False), redis_url="redis://", runs_dir=tmp_path
    )
    events = [threading.Event() for _ in range(3)]
    # It ends before it needs a trainer.
    place = Workplace(database, settings, Device("cpu", "m"), None, *events)  # type: ignore[arg-type]
    Attempt(claim, place).run()
    with database.read() as session:
        job = session.execute(select(core(Job)).where(core(Job).c.id == claim.lease.job_id)).one()
        assert (job.state, job.failure_code) == ("failed", "invalid_data")
        assert "damaged" in job.failure_message
        assert session.scalars(select(Content.whole_at).where(Content.sha256 == SHA256)).all() == [None]
    if experiment is not None:
        with pytest.raises(CheckpointNotFound):
            submit_evaluation(database, experiment)
        return
    # Sent again, they are stored again.
    bring(database)
    claim = take(database)
    ((_, (part,)),) = claim.inputs.items()
    assert b"".join(files.read(database, part)) == CONTENT
