"""A checkpoint comes back as it was stored, or not at all."""

import hashlib
import os

import pytest
from sqlalchemy import text

from bncore.events import CheckpointSaved, StoredFile
from bncore.run_directory import RunLayout
from bncore.spec import load_spec
from store import checkpoints, experiments, files, work
from store.errors import CheckpointDamaged, CheckpointNotFound
from store.experiments import Submission
from store.jobs import leases
from store.jobs.leases import Terms, Worker
from worker.fetching import Interrupted
from worker.restore import fetch

CONTENT = {"weights": os.urandom(files.CHUNK_BYTES + 100), "state": os.urandom(50)}

OF_STATE = "WHERE content_id = (SELECT content_id FROM files WHERE kind = 'training_state')"


@pytest.fixture
def stored(database):
    """A checkpoint, stored as a worker does it."""
    saved = {
        name: StoredFile(file=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in CONTENT.items()
    }
    event = CheckpointSaved(checkpoint_kind="last", step=7, epoch=1, **saved)
    with database.write() as session:
        experiments.submit(session, Submission.of(load_spec({})), owner="own_1", device="cpu")
    with database.write() as session:
        worker = Worker(process_id="prc_1", device="cpu", device_model="Model A", torch_version="2.13.0")
        lease = work.take(session, worker, Terms(60.0), leases.new_token()).lease
        begun = checkpoints.begin(session, lease, event)
        for name, content in CONTENT.items():
            for seq, start in enumerate(range(0, len(content), files.CHUNK_BYTES)):
                piece = content[start : start + files.CHUNK_BYTES]
                files.write_chunk(session, lease, begun.files[name].file_id, seq, piece)
        checkpoints.complete(session, lease, begun.id, {name: stored.sha256 for name, stored in saved.items()})
    return begun.id


def test_what_was_stored_is_in_the_run_directory(database, stored, tmp_path):
    layout = RunLayout(tmp_path)
    fetch(database, stored, layout, lambda: True)
    assert layout.restore_weights.read_bytes() == CONTENT["weights"]
    assert layout.restore_state.read_bytes() == CONTENT["state"]


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        ("DELETE FROM content_chunks WHERE seq = 1", "weights", "chunk 1 is missing"),
        (f"DELETE FROM content_chunks {OF_STATE}", "state", "chunk 0 is missing"),
        ("UPDATE content_chunks SET data = :short WHERE seq = 1", "weights", "not what was announced"),
        (f"UPDATE content_chunks SET data = :flipped {OF_STATE}", "state", "not what was announced"),
    ],
)
def test_damage_is_told_with_its_place(database, stored, tmp_path, damage, file, reason):
    content = CONTENT["state"]
    values = {":short": b"x", ":flipped": bytes([content[0] ^ 1]) + content[1:]}
    with database.write() as session:
        session.execute(text(damage), {name[1:]: value for name, value in values.items() if name in damage})
    with pytest.raises(CheckpointDamaged, match=reason) as caught:
        fetch(database, stored, RunLayout(tmp_path), lambda: True)
    assert (caught.value.checkpoint_id, caught.value.file) == (stored, file)


def test_it_ends_when_it_is_told_to_and_says_that_there_is_no_such_checkpoint(database, stored, tmp_path):
    with pytest.raises(Interrupted):
        fetch(database, stored, RunLayout(tmp_path), lambda: False)
    with pytest.raises(CheckpointNotFound):
        fetch(database, "ckp_0", RunLayout(tmp_path), lambda: True)
