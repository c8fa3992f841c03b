"""What is read of a checkpoint is what was stored, or an error: never other bytes."""

import hashlib

import pytest
from sqlalchemy import delete, update

from bncore.events import CheckpointSaved, StoredFile
from bncore.spec import load_spec
from store import checkpoints, experiments, files, work
from store.errors import CheckpointDamaged, CheckpointNotFound
from store.experiments import Submission
from store.files import CHUNK_BYTES
from store.jobs.leases import Terms, Worker, new_token
from store.tables import Checkpoint, ContentChunk, File

_DATA = b"ab" * CHUNK_BYTES


@pytest.fixture
def checkpoint_id(database):
    with database.write() as session:
        experiments.submit(session, Submission.of(load_spec({})), owner="own_1", device="cpu")
    with database.write() as session:
        claim = work.take(session, Worker("prc_1", "cpu", "Model A", "2.9.0"), Terms(60.0), new_token())
    digest = hashlib.sha256(_DATA).hexdigest()
    file = StoredFile(file="weights", size=len(_DATA), sha256=digest)
    event = CheckpointSaved(checkpoint_kind="last", step=5, epoch=0, weights=file)
    with database.write() as session:
        begun = checkpoints.begin(session, claim.lease, event)
        for seq in range(2):
            data = _DATA[seq * CHUNK_BYTES : (seq + 1) * CHUNK_BYTES]
            files.write_chunk(session, claim.lease, begun.files["weights"].file_id, seq, data)
        checkpoints.complete(session, claim.lease, begun.id, {"weights": digest})
    return begun.id


def _change(database, statement):
    with database.write() as session:
        session.execute(statement, execution_options={"synchronize_session": False})


def _read(database, checkpoint_id):
    return b"".join(checkpoints.read(database, checkpoint_id, "weights"))


def test_what_is_whole_is_read_as_it_was_stored(database, checkpoint_id):
    assert _read(database, checkpoint_id) == _DATA


@pytest.mark.parametrize("data", [b"ab" * (CHUNK_BYTES // 2 - 1) + b"ac", b"ab", None], ids=["bit", "cut", "gone"])
@pytest.mark.parametrize("seq", [0, 1])
def test_damage_is_an_error_and_never_other_bytes(database, checkpoint_id, data, seq):
    changed = update(ContentChunk).values(data=data)
    _change(database, (delete(ContentChunk) if data is None else changed).where(ContentChunk.seq == seq))
    with pytest.raises(CheckpointDamaged):
        _read(database, checkpoint_id)


def test_what_is_purged_while_it_is_read_is_not_damaged(database, checkpoint_id):
    chunks = checkpoints.read(database, checkpoint_id, "weights")
    next(chunks)
    _change(database, update(Checkpoint).values(dropped_at=1.0))
    _change(database, update(File).values(dropped_at=1.0))
    _change(database, delete(ContentChunk))
    with pytest.raises(CheckpointNotFound):
        next(chunks)
