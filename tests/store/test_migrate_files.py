"""Checkpoints' bytes on their way into contents and back: sizes, digests, bytes and whose they are stay."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import text

from store import checkpoints, files, migrate, orphans, owners, purging
from store.files import Announced
from store.jobs.leases import Lease

MIB = files.CHUNK_BYTES
WEIGHTS, STATE = b"w" * (MIB + 7), b"s" * 50
OLD_SIZES = "SELECT id, size, sha256, state_size, state_sha256, dropped_at IS NULL FROM checkpoints"
OLD_CHUNKS = "SELECT file, seq, data FROM checkpoint_chunks WHERE checkpoint_id = :id ORDER BY file, seq"
# Of what an owner has: as the version before counted it, and as it is counted now.
OLD_BYTES = (
    "SELECT jobs.owner, sum(size + coalesce(state_size, 0)) FROM checkpoints"
    " JOIN jobs ON jobs.id = experiment_id GROUP BY jobs.owner"
)


@pytest.fixture
def leases(lab: Any) -> list[Lease]:
    """A running job of each of two owners."""
    with lab.database.write() as session:
        ids = [owners.create(session, name) for name in ("one", "two")]
    return [lab.running(owner=owner) for owner in ids]


def counted(lab: Any) -> dict[str, int]:
    with lab.database.read() as session:
        rows = session.execute(text("SELECT id, stored_bytes FROM owners WHERE stored_bytes <> 0")).all()
    return {owner: int(stored) for owner, stored in rows}


def asked(lab: Any, question: str, **bound: Any) -> list[tuple[Any, ...]]:
    with lab.database.read() as session:
        return [tuple(row) for row in session.execute(text(question), bound)]


def test_bytes_that_were_shared_are_each_checkpoints_own_on_the_way_down_and_right_on_the_way_up(
    lab: Any, leases: list[Lease], saved: Any
) -> None:
    one, two = leases
    url = lab.database.engine.url.render_as_string(hide_password=False)
    best, last = lab.checkpoint(one, "best", 5, WEIGHTS), lab.checkpoint(one, "last", 5, WEIGHTS, STATE)
    others = lab.checkpoint(two, "last", 3, WEIGHTS, STATE)
    with lab.database.write() as session:
        # Sent in part; and a file that is no checkpoint's, for which the version before has no place.
        begun = checkpoints.begin(session, two, saved("last", 4, b"v" * (MIB + 1), None))
        files.write_chunk(session, two, begun.files["weights"].file_id, 0, b"v" * MIB)
        files.begin(session, one, Announced("report", "result", None, 9, "0" * 64))
    before = counted(lab)
    lab.database.dispose()

    migrate.downgrade(url, revision="0006")
    sums = (hashlib.sha256(WEIGHTS).hexdigest(), hashlib.sha256(STATE).hexdigest())
    found = {row[0]: row[1:] for row in asked(lab, OLD_SIZES)}
    assert found[best] == (len(WEIGHTS), sums[0], None, None, True)
    assert found[last] == found[others] == (len(WEIGHTS), sums[0], len(STATE), sums[1], True)
    weights = [("weights", 0, WEIGHTS[:MIB]), ("weights", 1, WEIGHTS[MIB:])]
    assert asked(lab, OLD_CHUNKS, id=best) == weights
    assert asked(lab, OLD_CHUNKS, id=last) == asked(lab, OLD_CHUNKS, id=others) == [("state", 0, STATE), *weights]
    assert asked(lab, OLD_CHUNKS, id=begun.id) == [("weights", 0, b"v" * MIB)]
    assert counted(lab) == {owner: int(size) for owner, size in asked(lab, OLD_BYTES)}
    lab.database.dispose()

    migrate.upgrade(url)
    # What was shared counts twice now, and the file that had no place is gone.
    before[lab.get(one.job_id).owner] += len(WEIGHTS) - 9
    assert counted(lab) == before
    for checkpoint_id in (best, last, others):
        assert b"".join(checkpoints.read(lab.database, checkpoint_id, "weights")) == WEIGHTS
    assert b"".join(checkpoints.read(lab.database, last, "state")) == STATE
    with lab.database.write() as session:
        assert orphans.find(session) == []
        # The attempt goes on with what it had begun.
        again = checkpoints.begin(session, two, saved("last", 4, b"v" * (MIB + 1), None))
        assert (again.id, again.files["weights"].whole) == (begun.id, False)
    lab.send(two, again.files["weights"], b"v" * (MIB + 1))
    lab.complete(two, again)
    assert lab.checkpoint(one, "last", 6, WEIGHTS, STATE)
    with lab.database.write() as session:
        while purging.purge(session):
            pass
        assert orphans.find(session) == []
    # The newer one found the bytes of one of those before it.
    left = counted(lab)[lab.get(one.job_id).owner] - len(STATE)
    assert left in (len(WEIGHTS), 2 * len(WEIGHTS))


def test_bytes_that_were_purged_in_part_are_nobody_elses_after_the_upgrade(lab: Any, leases: list[Lease]) -> None:
    one, _ = leases
    url = lab.database.engine.url.render_as_string(hide_password=False)
    dropped = lab.checkpoint(one, "last", 5, WEIGHTS, STATE)
    lab.checkpoint(one, "last", 6, b"newer", STATE)
    lab.database.dispose()
    migrate.downgrade(url, revision="0006")
    with lab.database.write() as session:
        session.execute(text("DELETE FROM checkpoint_chunks WHERE checkpoint_id = :id AND seq = 0"), {"id": dropped})
    lab.database.dispose()
    migrate.upgrade(url)
    with lab.database.write() as session:
        sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        assert not files.begin(session, one, Announced("a", "result", None, len(WEIGHTS), sha256)).whole
        while purging.purge(session):
            pass
        assert orphans.find(session) == []
    assert counted(lab)[lab.get(one.job_id).owner] == len(b"newer") + len(STATE) + len(WEIGHTS)
