"""Purging beside those who write: nobody waits for it, and the disk gets everything back."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, make_url

from store import checkpoints, experiments, purging, work
from store.jobs.wishes import By
from store.tables import ContentChunk

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MEBIBYTES = 100


def test_a_large_purge_lets_others_write_and_leaves_neither_bytes_nor_log(lab: Any) -> None:
    path = Path(make_url(str(lab.database.engine.url)).database or "")
    before = path.stat().st_size
    delete_a_large_one(lab)
    waits: list[float] = []
    purged = threading.Event()

    def submit() -> None:
        while not purged.is_set():
            began = time.monotonic()
            lab.submit()
            waits.append(time.monotonic() - began)

    others = threading.Thread(target=submit)
    others.start()
    held = purge(lab)
    purged.set()
    others.join()
    purging.truncate_log(lab.database)
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    assert path.stat().st_size < before + (4 << 20)
    # A step holds the lock for some ten milliseconds; the rest is for a busy machine.
    assert max(held) < 1.0
    assert waits


def delete_a_large_one(lab: Any) -> None:
    lease = lab.running()
    checkpoint_id = lab.checkpoint(lease, "last", 1)
    mebibyte = os.urandom(1 << 20)
    with lab.database.write() as session:
        weights = checkpoints.get(session, lease.job_id, checkpoint_id).weights
        chunks = [{"content_id": weights.content_id, "seq": 1 + seq} for seq in range(MEBIBYTES)]
        session.execute(insert(ContentChunk).values(data=mebibyte), chunks)
    lab.finish(lease, work.Failed("trainer_error", "Broke."))
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))


def purge(lab: Any) -> list[float]:
    """Purge all, as the relay does; for how long each step held the lock."""
    held = []
    while True:
        with lab.database.write() as session:
            session.connection()
            began = time.monotonic()
            deleted = purging.purge(session)
        held.append(time.monotonic() - began)
        if not deleted:
            return held
        time.sleep(held[-1])
