"""Uploads that end in two ways at once: counted or given up, completed or forgotten, and never half of each."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from store import files
from store.database import Database
from store.datasets import completing, uploads
from store.datasets.uploads import Wanted
from store.queueing import Limits
from store.tables import File, Upload
from tests.store.conftest import Lab
from tests.store.test_races import until_somebody_waits_for_a_lock


@pytest.fixture
def database(postgresql_url):
    """SQLite has one writer at a time."""
    found = Database(postgresql_url)
    yield found
    found.dispose()


def source(lab: Lab) -> bytes:
    """What the worker that imports next is given."""
    ((_, file_ids),) = lab.claim().inputs.items()
    return b"".join(b"".join(files.read(lab.database, one)) for one in file_ids)


def purge(lab: Lab) -> int:
    with lab.database.write() as session:
        return uploads.purge(session)


def test_an_upload_that_is_completed_at_its_last_moment_keeps_its_bytes(lab):
    upload = lab.upload(b"a", b"b")
    with lab.database.read() as session:
        parts = uploads.parts(session, upload.id)
    *_, whole = completing.put_together(lab.database, parts)
    with lab.database.write() as session:
        session.execute(update(Upload).values(expires_at=0.0))
    with ThreadPoolExecutor(1) as threads:
        with lab.database.write() as session:
            completing.complete(session, upload, whole, whole.sha256, device="cpu", limits=Limits())
            forgotten = threads.submit(purge, lab)
            until_somebody_waits_for_a_lock(lab.database)
        assert forgotten.result(60) == 1
    assert source(lab) == b"ab"


def test_of_a_part_that_comes_while_its_upload_is_forgotten_nothing_is_left(lab):
    upload = lab.upload(b"a")
    part = uploads.Part(2, 1, hashlib.sha256(b"b").hexdigest())
    with lab.database.write() as session:
        _, begun = uploads.begin_part(session, upload.id, part, owner="own_1", most_bytes=9, owner_bytes=None)
    with lab.database.write() as session:
        files.write_chunk_of(session, "own_1", begun.file_id, 0, b"b")
        session.execute(update(Upload).values(expires_at=0.0))
    with ThreadPoolExecutor(1) as threads:
        with lab.database.write() as session:
            ours = {"owner": "own_1", "file_id": begun.file_id, "digest": part.sha256, "most_bytes": 9}
            uploads.finish_part(session, upload.id, part, **ours)
            forgotten = threads.submit(purge, lab)
            until_somebody_waits_for_a_lock(lab.database)
        assert forgotten.result(60) == 1
    with lab.database.read() as session:
        assert len(session.scalars(select(File.id).where(File.dropped_at.is_not(None))).all()) == 2


def test_one_key_begins_an_upload_however_often_that_is_given_up_meanwhile(lab):
    wanted = Wanted("n", "n.npz", {}, "f")
    ended = threading.Event()

    def begin_and_give_up():
        while not ended.is_set():
            with lab.database.write() as session:
                upload = uploads.begin(session, wanted, owner="own_1", idempotency_key="k")
            with lab.database.write() as session:
                uploads.give_up(session, upload.id, owner="own_1")

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(begin_and_give_up)
        try:
            for _ in range(200):
                with lab.database.write() as session:
                    uploads.begin(session, wanted, owner="own_1", idempotency_key="k")
        finally:
            ended.set()
        other.result(60)
