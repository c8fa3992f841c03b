"""What is stored at once is what had been stored one thing after another."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select, update

from bncore.events import CheckpointSaved
from store import at_once, checkpoints, files, orphans, results
from store.at_once import CameBefore, Saved
from store.columns import core
from store.errors import FileDamaged, QuotaExceeded
from store.files import CHUNK_BYTES, Announced, Small
from store.jobs.leases import Lease
from store.tables import Checkpoint, Content, ContentChunk, File, JobEvent, Owner

SAME, NEXT, STATE = b"w" * 100, b"v" * 100, b"s" * 50


def small(name: str, data: bytes, step: int | None = None) -> Small:
    return Small(Announced(name, "diagnostic", step, len(data), hashlib.sha256(data).hexdigest()), data)


def rounds(saved: Any) -> list[tuple[list[Small], list[Saved]]]:
    """A best; a last and a best with the same weights beside it, which replaces it; a last with those again, which
    replaces the one before; and recordings, two of which are alike."""

    def checkpoint(kind: str, step: int, weights: bytes, state: bytes | None = None) -> Saved:
        parts = {"weights": weights} if state is None else {"weights": weights, "state": state}
        return saved(kind, step, weights, state), parts  # type: ignore[return-value]

    return [
        ([small("a-1", b"a", 1)], [checkpoint("best", 1, SAME)]),
        (
            [small("a-2", b"b", 2), small("b-2", b"b", 2)],
            [checkpoint("best", 2, NEXT), checkpoint("last", 2, NEXT, STATE)],
        ),
        ([small("a-3", b"a", 3)], [checkpoint("last", 3, NEXT, STATE + b"3")]),
        ([small("none", b"n")], []),
    ]


def store(lab: Any, lease: Lease, made: list[Small], saved: list[Saved], owner_bytes: int | None = None) -> None:
    with lab.database.write() as session:
        at_once.store(session, lease, [event for event, _ in saved], made, saved, owner_bytes)


def store_one_by_one(lab: Any, lease: Lease, made: list[Small], saved: list[Saved]) -> None:
    lab.append(lease, *(event for event, _ in saved))
    for one in made:
        said = one.announced
        lab.file(lease, said.name, one.data, said.kind, said.step)
    for event, data in saved:
        lab.checkpoint(lease, event.checkpoint_kind, event.step, data["weights"], data.get("state"))


def left(lab: Any, lease: Lease, owner: str) -> dict[str, list[Any]]:
    """All that is stored of a job, without ids and times."""

    def rows(session: Any, *columns: Any, where: Any) -> list[Any]:
        return sorted(map(tuple, session.execute(select(*columns).where(where)).all()), key=repr)

    def without_id(data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name != "checkpoint_id"}

    file, content, made, line = (core(one).c for one in (File, Content, Checkpoint, JobEvent))
    with lab.database.read() as session:
        shown = (file.whole_at.is_not(None), file.dropped_at.is_not(None))
        found = {
            "files": rows(
                session,
                file.name,
                file.kind,
                file.step,
                file.size,
                file.sha256,
                *shown,
                where=file.job_id == lease.job_id,
            ),
            "contents": rows(
                session,
                content.sha256,
                content.size,
                content.uses,
                content.whole_at.is_not(None),
                where=content.owner == owner,
            ),
            "checkpoints": rows(
                session,
                made.kind,
                made.step,
                made.epoch,
                made.attempt,
                made.whole_at.is_not(None),
                made.dropped_at.is_not(None),
                where=made.experiment_id == lease.job_id,
            ),
            "lines": [
                (one.kind, one.message, without_id(one.data))
                for one in session.execute(
                    select(line.kind, line.message, line.data).where(line.job_id == lease.job_id).order_by(line.number)
                )
            ],
            "bytes": rows(session, Owner.stored_bytes, where=Owner.id == owner),
        }
        chunks = select(content.sha256, core(ContentChunk).c.seq, core(ContentChunk).c.data)
        joined = chunks.join(core(ContentChunk), core(ContentChunk).c.content_id == content.id)
        found["chunks"] = sorted(map(tuple, session.execute(joined.where(content.owner == owner)).all()))
        assert orphans.find(session) == []
    return found


def running(lab: Any, owner: str, **parts: Any) -> Lease:
    with lab.database.write() as session:
        if session.get(Owner, owner) is None:
            session.add(Owner(id=owner, name=owner, stored_bytes=0, created_at=0.0))
    lease: Lease = lab.running(owner=owner, **parts)
    return lease


@pytest.mark.parametrize("keep_periodic", [False, True])
def test_the_rows_are_those_of_one_thing_after_another(lab: Any, saved: Any, keep_periodic: bool) -> None:
    parts = {"checkpoint": {"keep_periodic": keep_periodic}}
    one, other = running(lab, "own_a", **parts), running(lab, "own_b", **parts)
    for made, of_round in rounds(saved):
        store(lab, one, made, of_round)
        store_one_by_one(lab, other, made, of_round)
        assert left(lab, one, "own_a") == left(lab, other, "own_b")
    kinds = sorted(kind for kind, _ in lab.checkpoints(one.job_id))
    assert kinds == (["best", "last", "periodic"] if keep_periodic else ["best", "last"])


def test_what_came_before_is_left_to_those_who_store_one_by_one(lab: Any, saved: Any) -> None:
    lease = running(lab, "own_a")
    made, of_round = rounds(saved)[1]
    store(lab, lease, made, of_round)
    before = lab.everything()
    # All of it again; a file with other bytes under its name; a checkpoint alone; two files of one name.
    for files_again, saved_again in (
        (made, of_round),
        ([small("a-2", b"c", 2)], []),
        ([], of_round[:1]),
        ([small("c", b"1"), small("c", b"2")], []),
    ):
        with pytest.raises(CameBefore):
            store(lab, lease, files_again, saved_again)
        assert lab.everything() == before


def test_nothing_is_stored_of_what_is_too_much_or_no_chunk(lab: Any, saved: Any) -> None:
    lease = running(lab, "own_a")
    made, of_round = rounds(saved)[1]
    before = lab.everything()
    room = len(b"b") + len(NEXT) + len(STATE)
    with pytest.raises(QuotaExceeded):
        store(lab, lease, made, of_round, room - 1)
    empty = Small(Announced("e", "diagnostic", None, 0, hashlib.sha256(b"").hexdigest()), b"")
    for wrong in (empty, small("l", b"l" * (CHUNK_BYTES + 1))):
        with pytest.raises(ValueError, match="not one announced chunk"):
            store(lab, lease, [wrong], [])
    assert lab.everything() == before
    store(lab, lease, made, of_round, room)
    assert left(lab, lease, "own_a")["bytes"] == [(room,)]


@pytest.mark.parametrize("damage", ["other bytes", "no bytes"])
def test_bytes_that_are_there_are_compared(lab: Any, damage: str) -> None:
    lease = running(lab, "own_a")
    store(lab, lease, [small("a", b"a" * 10)], [])
    with lab.database.write() as session:
        chunks = core(ContentChunk)
        session.execute(update(chunks).values(data=b"x" * 10) if damage == "other bytes" else chunks.delete())
    before = lab.everything()
    with pytest.raises(FileDamaged):
        store(lab, lease, [small("b", b"a" * 10)], [])
    assert lab.everything() == before
    # Found so by whoever reads it, it is shared no more.
    with lab.database.write() as session:
        files.condemn(session, session.scalars(select(File.id)).all())
    store(lab, lease, [small("b", b"a" * 10)], [])
    with lab.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Content)) == 2


def test_of_two_jobs_with_the_same_bytes_at_once_they_are_stored_once(lab: Any, saved: Any) -> None:
    """Two owners besides, each with bytes of its own."""
    leases = [running(lab, owner) for owner in ("own_a", "own_a", "own_b", "own_b")]
    gate = Barrier(len(leases))

    def act(lease: Lease) -> None:
        gate.wait()
        for made, of_round in rounds(saved):
            store(lab, lease, made, of_round)

    with ThreadPoolExecutor(len(leases)) as pool:
        list(pool.map(act, leases))
    kept = {b"a", b"b", b"n", SAME, NEXT, STATE, STATE + b"3"}
    for owner in ("own_a", "own_b"):
        found = left(lab, leases[0] if owner == "own_a" else leases[2], owner)
        assert found["bytes"] == [(sum(map(len, kept)),)]
        assert [data for _, _, data in found["chunks"]] == [
            data for _, data in sorted((hashlib.sha256(data).hexdigest(), data) for data in kept)
        ]
    for lease in leases:
        (last,) = [row for row in listed(lab, lease) if row.kind == "last"]
        assert b"".join(checkpoints.read(lab.database, last.id, "weights")) == NEXT


def listed(lab: Any, lease: Lease) -> list[Checkpoint]:
    with lab.database.read() as session:
        return checkpoints.listed(session, lease.job_id)


def test_events_without_files_are_as_results_append_stores_them(lab: Any, block: Any) -> None:
    one, other = running(lab, "own_a"), running(lab, "own_b")
    events: list[CheckpointSaved] = [block(1, train__loss=[1.0, 2.0])]
    with lab.database.write() as session:
        at_once.store(session, one, events, [], [])
    with lab.database.write() as session:
        results.append(session, other, events)
    assert lab.points(one.job_id, "train/loss") == lab.points(other.job_id, "train/loss") == ([1, 2], [1.0, 2.0])
