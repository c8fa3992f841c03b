"""Files: announced, sent, shown when whole; the same bytes of one owner are stored and counted once."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import func, select, update

from store import checkpoints, experiments, files, orphans, owners, purging, work
from store.errors import FileDamaged, FileIncomplete, FileNotFound, QuotaExceeded
from store.files import Announced, Begun
from store.jobs.leases import Lease
from store.jobs.wishes import By
from store.tables import Content, ContentChunk, File

MIB = files.CHUNK_BYTES
DATA = b"0123456789" * 200_000


@pytest.fixture
def owner(lab: Any) -> str:
    with lab.database.write() as session:
        return owners.create(session, "team")


@pytest.fixture
def lease(lab: Any, owner: str) -> Lease:
    return lab.running(owner=owner)


def announced(data: bytes, name: str = "report.json", kind: str = "report") -> Announced:
    return Announced(name, kind, None, len(data), hashlib.sha256(data).hexdigest())


def stored(lab: Any, lease: Lease, data: bytes, name: str = "report.json", kind: str = "report") -> Begun:
    with lab.database.write() as session:
        begun = files.begin(session, lease, announced(data, name, kind))
    lab.send(lease, begun, data)
    with lab.database.write() as session:
        files.complete(session, lease, begun.file_id, files.digest(lab.database, begun.file_id))
    return begun


def uploaded(lab: Any, owner: str, data: bytes) -> str:
    with lab.database.write() as session:
        begun = files.begin_of(session, owner, announced(data))
        for seq, start in enumerate(range(0, 0 if begun.whole else len(data), MIB)):
            files.write_chunk_of(session, owner, begun.file_id, seq, data[start : start + MIB])
    with lab.database.write() as session:
        files.complete_of(session, owner, begun.file_id, files.digest(lab.database, begun.file_id))
    return begun.file_id


def content(lab: Any, file_id: str) -> bytes:
    return b"".join(files.read(lab.database, file_id))


def bytes_of(lab: Any, owner: str) -> int:
    with lab.database.read() as session:
        assert orphans.find(session) == []
        return owners.find(session, owner).stored_bytes


def purge(lab: Any) -> None:
    gone = 1
    while gone:
        with lab.database.write() as session:
            gone = purging.purge(session)


def test_the_same_bytes_are_stored_and_counted_once_for_each_owner(lab: Any, lease: Lease, owner: str) -> None:
    first = stored(lab, lease, DATA)
    again = stored(lab, lease, DATA, "other.json")
    assert (first.whole, again.whole) == (False, True)
    brought = uploaded(lab, owner, DATA)
    with lab.database.write() as session:
        other = owners.create(session, "others")
    elsewhere = uploaded(lab, other, DATA)
    for file_id in (first.file_id, again.file_id, brought, elsewhere):
        assert content(lab, file_id) == DATA
    assert bytes_of(lab, owner) == bytes_of(lab, other) == len(DATA)
    with lab.database.read() as session:
        assert sorted(session.scalars(select(Content.uses))) == [1, 3]
        names = [file.name for file in files.of_job(session, lease.job_id)]
    assert names == ["other.json", "report.json"]


def test_shared_bytes_stay_until_the_last_file_is_dropped(lab: Any, owner: str) -> None:
    first, second = uploaded(lab, owner, DATA), uploaded(lab, owner, DATA)
    for left, gone in ((second, first), (None, second)):
        with lab.database.write() as session:
            files.drop(session, [gone])
        with pytest.raises(FileNotFound):
            files.read(lab.database, gone)
        purge(lab)
        if left is not None:
            assert content(lab, left) == DATA
            assert bytes_of(lab, owner) == len(DATA)
    assert bytes_of(lab, owner) == 0
    assert all(not lab.everything()[table] for table in ("files", "contents", "content_chunks"))


def test_bytes_that_nothing_refers_to_never_come_back(lab: Any, owner: str) -> None:
    old = uploaded(lab, owner, DATA)
    with lab.database.write() as session:
        files.drop(session, [old])
        assert purging.purge(session) == 1
    # Its chunks are there still, and are not for new files.
    new = uploaded(lab, owner, DATA)
    assert bytes_of(lab, owner) == 2 * len(DATA)
    purge(lab)
    assert content(lab, new) == DATA
    assert bytes_of(lab, owner) == len(DATA)


def test_of_two_who_send_the_same_at_once_one_content_is_left(lab: Any, owner: str) -> None:
    with lab.database.write() as session:
        both = [files.begin_of(session, owner, announced(b"x")).file_id for _ in range(2)]
        for file_id in both:
            files.write_chunk_of(session, owner, file_id, 0, b"x")
    for file_id in both:
        with lab.database.write() as session:
            files.complete_of(session, owner, file_id, files.digest(lab.database, file_id))
    purge(lab)
    assert [content(lab, file_id) for file_id in both] == [b"x", b"x"]
    assert bytes_of(lab, owner) == 1


def test_best_and_last_of_the_same_weights_are_one_content(lab: Any, lease: Lease, owner: str) -> None:
    best = lab.checkpoint(lease, "best", 5, DATA)
    last = lab.checkpoint(lease, "last", 5, DATA)
    assert bytes_of(lab, owner) == len(DATA) + 50
    for checkpoint_id in (best, last):
        assert b"".join(checkpoints.read(lab.database, checkpoint_id, "weights")) == DATA
    lab.checkpoint(lease, "last", 6, b"other")
    purge(lab)
    assert b"".join(checkpoints.read(lab.database, best, "weights")) == DATA
    assert bytes_of(lab, owner) == len(DATA) + len(b"other") + 50


def test_what_is_announced_again_is_the_same_file_and_what_has_its_name_replaces_it(lab: Any, lease: Lease) -> None:
    first = stored(lab, lease, DATA)
    again = stored(lab, lease, DATA)
    assert again == Begun(first.file_id, whole=True)
    with lab.database.write() as session:
        newer = files.begin(session, lease, announced(b"newer"))
    assert content(lab, first.file_id) == DATA
    lab.send(lease, newer, b"newer")
    with lab.database.write() as session:
        files.complete(session, lease, newer.file_id, files.digest(lab.database, newer.file_id))
    with lab.database.read() as session:
        assert [file.id for file in files.of_job(session, lease.job_id)] == [newer.file_id]


def test_a_file_is_shown_when_all_of_it_is_what_was_announced(lab: Any, owner: str) -> None:
    with lab.database.write() as session:
        file_id = files.begin_of(session, owner, announced(DATA)).file_id
        files.write_chunk_of(session, owner, file_id, 0, DATA[:MIB])
    for error in (FileIncomplete, FileDamaged):
        with lab.database.write() as session, pytest.raises(error):
            files.complete_of(session, owner, file_id, files.digest(lab.database, file_id))
        with pytest.raises(FileNotFound):
            files.read(lab.database, file_id)
        with lab.database.write() as session:
            files.write_chunk_of(session, owner, file_id, 1, b"x" * (len(DATA) - MIB))
    with lab.database.write() as session:
        files.write_chunk_of(session, owner, file_id, 1, DATA[MIB:])
    with lab.database.write() as session:
        files.complete_of(session, owner, file_id, files.digest(lab.database, file_id))
        # It is whole: what comes late changes nothing.
        files.write_chunk_of(session, owner, file_id, 1, b"x")
    assert content(lab, file_id) == DATA


def test_nobody_writes_to_a_file_of_others(lab: Any, lease: Lease, owner: str) -> None:
    with lab.database.write() as session:
        brought = files.begin_of(session, owner, announced(b"x")).file_id
        of_job = files.begin(session, lease, announced(b"y")).file_id
    writes = [
        lambda session: files.write_chunk_of(session, "own_other", brought, 0, b"x"),
        lambda session: files.complete_of(session, "own_other", brought, ""),
        lambda session: files.attach(session, "own_other", brought, lease.job_id),
        lambda session: files.write_chunk_of(session, owner, of_job, 0, b"y"),
        lambda session: files.write_chunk(session, lease, brought, 0, b"x"),
        lambda session: files.complete(session, lease, brought, ""),
    ]
    before = lab.everything(but=["jobs"])
    for write in writes:
        with pytest.raises(FileNotFound), lab.database.write() as session:
            write(session)
    assert lab.everything(but=["jobs"]) == before


def test_an_upload_is_its_jobs_once_attached_and_dropped_when_it_is_nobodys(lab: Any, lease: Lease, owner: str) -> None:
    attached, forgotten = uploaded(lab, owner, b"a"), uploaded(lab, owner, b"b")
    with lab.database.write() as session:
        files.attach(session, owner, attached, lease.job_id)
        files.attach(session, owner, attached, lease.job_id)
    lab.jump(purging.UNATTACHED_SECONDS + 1)
    purge(lab)
    assert content(lab, attached) == b"a"
    with pytest.raises(FileNotFound):
        files.read(lab.database, forgotten)
    lab.finish(lab.claim().lease if lab.get(lease.job_id).state == "queued" else lease, work.Cancelled())
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))
    with pytest.raises(FileNotFound):
        files.read(lab.database, attached)
    purge(lab)
    assert bytes_of(lab, owner) == 0
    assert lab.everything()["jobs"] == []


def test_quota_counts_what_is_not_there_yet_and_nothing_twice(lab: Any, owner: str) -> None:
    with lab.database.write() as session:
        files.begin_of(session, owner, announced(b"x" * 60), 100)
    with pytest.raises(QuotaExceeded), lab.database.write() as session:
        files.begin_of(session, owner, announced(b"y" * 60), 100)
    assert bytes_of(lab, owner) == 60
    uploaded(lab, owner, b"z" * 40)
    with lab.database.write() as session:
        assert files.begin_of(session, owner, announced(b"z" * 40), 100).whole
    assert bytes_of(lab, owner) == 100


def test_nothing_new_refers_to_damaged_bytes(lab: Any, lease: Lease, owner: str) -> None:
    old = stored(lab, lease, DATA)
    shared = stored(lab, lease, DATA, "other.json")
    with lab.database.write() as session:
        session.execute(update(ContentChunk).where(ContentChunk.seq == 1).values(data=b"x"))
    for file_id in (old.file_id, shared.file_id):
        with pytest.raises(FileDamaged):
            content(lab, file_id)
    with lab.database.write() as session:
        files.start_over(session, lease, shared.file_id)
    assert bytes_of(lab, owner) == 2 * len(DATA)
    with pytest.raises(FileNotFound):
        files.read(lab.database, shared.file_id)
    lab.send(lease, Begun(shared.file_id, whole=False), DATA)
    with lab.database.write() as session:
        files.complete(session, lease, shared.file_id, files.digest(lab.database, shared.file_id))
    assert content(lab, shared.file_id) == content(lab, uploaded(lab, owner, DATA)) == DATA
    with lab.database.read() as session:
        used = select(File.content_id, func.count()).group_by(File.content_id).order_by(func.count())
        assert [count for _, count in session.execute(used)] == [1, 2]
