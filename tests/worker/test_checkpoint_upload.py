"""Which checkpoints are worth storing when several wait, and which of their bytes are worth sending."""

import hashlib
from contextlib import contextmanager

import pytest
from sqlalchemy import event, select, update

from bncore.events import CheckpointSaved, FileSaved, StoredFile, encode
from bncore.spec import load_spec
from store import checkpoints, experiments, orphans, owners, recordings, work
from store.errors import QuotaExceeded, StaleLease
from store.experiments import Submission
from store.files import CHUNK_BYTES, Begun
from store.jobs import leases
from store.jobs.leases import Go, Terms, Worker
from store.tables import ContentChunk, Owner
from worker.checkpoint_upload import CheckpointUpload, worth_storing
from worker.file_upload import FileSender
from worker.reporting import Reporting


def _saved(*words):
    """`best 3`, `last 5` and so on."""
    events = []
    for word in words:
        kind, step = word.split()
        file = StoredFile(file=f"checkpoints/{kind}-{step}", size=1, sha256="0")
        events.append(CheckpointSaved(at=0.0, checkpoint_kind=kind, step=int(step), epoch=0, weights=file))
    return events


@pytest.mark.parametrize(
    ("waiting", "kept"),
    [
        ([], []),
        (["best 1"], ["best 1"]),
        (["best 1", "best 2"], ["best 2"]),
        (["last 1", "last 2"], ["last 2"]),
        (["best 1", "best 2", "last 3", "best 4", "best 5"], ["best 2", "last 3", "best 5"]),
        (["best 1", "last 2", "best 3", "last 4"], ["best 3", "last 4"]),
        (["best 1", "last 2", "last 4"], ["best 1", "last 4"]),
    ],
)
def test_the_newest_last_stays_with_the_newest_best_before_and_after_it(waiting, kept):
    assert worth_storing(_saved(*waiting)) == _saved(*kept)


@pytest.fixture
def lease(database):
    with database.write() as session:
        owner = owners.create(session, "team")
        experiments.submit(session, Submission.of(load_spec({})), owner=owner, device="cpu")
    with database.write() as session:
        worker = Worker(process_id="prc_1", device="cpu", device_model="Model A", torch_version="2.13.0")
        return work.take(session, worker, Terms(60.0), leases.new_token()).lease


def _write(directory, kind, step, weights):
    """A checkpoint as a trainer leaves it, and its event."""
    path = directory / f"{kind}-{step}.safetensors"
    path.write_bytes(weights)
    stored = StoredFile(file=path.name, size=len(weights), sha256=hashlib.sha256(weights).hexdigest())
    return CheckpointSaved(at=0.0, checkpoint_kind=kind, step=step, epoch=0, weights=stored)


def _sender(database, lease, directory, on_answer, renew_seconds=5.0):
    return FileSender(database, lease, directory, owner_bytes=1 << 30, renew_seconds=renew_seconds, on_answer=on_answer)


def _upload(database, lease, directory, *events):
    """The chunks that were sent."""
    sent = []
    with _heard(database, "INSERT INTO content_chunks", sent):
        upload = CheckpointUpload(_sender(database, lease, directory, lambda _: None), keep_periodic=True)
        upload.add(events)
        upload.run()
    return len(sent)


@contextmanager
def _heard(database, statement, sent):
    def hear(_connection, _cursor, said, parameters, _context, _many):
        if said.startswith(statement):
            sent.append(parameters)

    event.listen(database.engine, "before_cursor_execute", hear)
    yield
    event.remove(database.engine, "before_cursor_execute", hear)


def _weights(database, lease):
    with database.read() as session:
        found = checkpoints.listed(session, lease.job_id)
    return [b"".join(checkpoints.read(database, row.id, "weights")) for row in found]


def test_bytes_that_are_there_already_are_not_sent_again(database, lease, tmp_path):
    weights = b"w" * (CHUNK_BYTES + 1)
    assert _upload(database, lease, tmp_path, _write(tmp_path, "best", 3, weights)) == 2
    assert _upload(database, lease, tmp_path, _write(tmp_path, "last", 3, weights)) == 0
    assert _weights(database, lease) == [weights, weights]
    assert list(tmp_path.glob("*.safetensors")) == []
    # An answer was lost, or this worker is told of it again.
    assert _upload(database, lease, tmp_path, _write(tmp_path, "last", 3, weights)) == 0
    with database.read() as session:
        assert session.scalars(select(Owner.stored_bytes).where(Owner.name == "team")).one() == len(weights)


def test_bytes_that_are_there_and_damaged_are_sent_again(database, lease, tmp_path):
    weights = b"w" * 100
    _upload(database, lease, tmp_path, _write(tmp_path, "best", 3, weights))
    with database.write() as session:
        session.execute(update(ContentChunk).values(data=b"v" + weights[1:]))
    assert _upload(database, lease, tmp_path, _write(tmp_path, "last", 3, weights)) == 1
    with database.read() as session:
        last = next(row for row in checkpoints.listed(session, lease.job_id) if row.kind == "last")
        assert orphans.find(session) == []
    assert b"".join(checkpoints.read(database, last.id, "weights")) == weights


def test_while_a_large_file_is_compared_the_lease_is_renewed(database, lease, tmp_path):
    """A whole one, of which nothing is sent: reading it may take longer than the lease lasts."""
    saved = _write(tmp_path, "last", 3, b"w" * (3 * CHUNK_BYTES))
    _upload(database, lease, tmp_path, saved)
    with database.read() as session:
        (row,) = checkpoints.listed(session, lease.job_id)
    answers = []
    sender = _sender(database, lease, tmp_path, answers.append, renew_seconds=0.0)
    assert sender.sent(Begun(row.weights_id, whole=True), saved.weights) == saved.weights.sha256
    assert answers == [Go()] * 3
    with database.write() as session:
        work.finish(session, lease, work.Cancelled())
    with pytest.raises(StaleLease):
        sender.sent(Begun(row.weights_id, whole=True), saved.weights)


def test_a_file_is_stored_before_the_checkpoint_that_follows_it(database, lease, tmp_path):
    """A worker killed between the two would otherwise leave a run that goes on behind a measurement that is lost."""
    content = b"r" * 20
    (tmp_path / "recording").write_bytes(content)
    file = StoredFile(file="recording", size=20, sha256=hashlib.sha256(content).hexdigest())
    recording = FileSaved(name="recording", file_kind="diagnostic", file=file, step=5)
    events = [recording, _write(tmp_path, "last", 5, b"w" * 10)]
    (tmp_path / "events.jsonl").write_text("".join(map(encode, events)))
    reporting = Reporting(
        database, lease, tmp_path, keep_periodic=False, owner_bytes=15, renew_seconds=5.0, on_answer=lambda _: None
    )
    # There is room for the checkpoint and none for the file.
    with pytest.raises(QuotaExceeded):
        reporting.flush()
    with database.read() as session:
        assert checkpoints.listed(session, lease.job_id) == []
        assert recordings.listed(session, lease.job_id) == []
