"""Purging beside those who write: nobody waits for it, and the disk gets everything back."""

import itertools
import os
import threading
from collections.abc import Callable
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
    purged, submitted = threading.Event(), threading.Event()

    def submit() -> None:
        while not purged.is_set():
            lab.submit()
            submitted.set()

    def rest() -> None:
        submitted.clear()
        assert submitted.wait(60)

    others = threading.Thread(target=submit)
    others.start()
    try:
        steps = purge(lab, rest)
    finally:
        purged.set()
        others.join()
    purging.truncate_log(lab.database)
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    assert path.stat().st_size < before + (4 << 20)
    # A step holds the lock for no more than it deletes, and between any two somebody else has had it.
    assert steps > MEBIBYTES / purging.STEP_CHUNKS


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


def purge(lab: Any, rest: Callable[[], None]) -> int:
    """Purge all, as the relay does; in how many steps."""
    for step in itertools.count(1):
        with lab.database.write() as session:
            deleted = purging.purge(session)
        if not deleted:
            return step
        rest()
    raise AssertionError
