"""What trainers print: both ends are kept, a repeat changes nothing, and it goes with its job."""

from typing import Any

import pytest

from store import experiments, logs, purging
from store.errors import StaleLease
from store.jobs.leases import Lease
from store.jobs.wishes import By
from store.work import Released, Succeeded

PIECE = logs.MAX_PIECE_BYTES


def append(lab: Any, lease: Lease, start: int, data: bytes) -> None:
    with lab.database.write() as session:
        logs.append(session, lease, start, data)


def read(lab: Any, lease: Lease, after: int = 0, at_most: int = 4 << 20) -> tuple[int, bytes]:
    with lab.database.read() as session:
        piece = logs.read(session, lease.job_id, lease.attempt, after, at_most)
    assert piece.end == piece.start + len(piece.data)
    return piece.start, piece.data


def test_lines_come_back_from_any_place_and_each_attempt_has_its_own(lab: Any) -> None:
    lease = lab.running()
    version = lab.get(lease.job_id).version
    append(lab, lease, 0, b"one\ntwo")
    append(lab, lease, 7, b"\nthr\xffe\n")
    assert lab.get(lease.job_id).version == version + 2
    whole = b"one\ntwo\nthr\xffe\n"
    assert [read(lab, lease, after) for after in (0, 5, 14, 99)] == [(0, whole), (5, whole[5:]), (14, b""), (99, b"")]
    assert read(lab, lease, 2, 3) == (2, whole[2:5])
    lab.finish(lease, Released())
    assert read(lab, lab.claim().lease) == (0, b"")
    assert read(lab, lease) == (0, whole)


def test_a_repeat_whose_answer_was_lost_is_stored_once(lab: Any) -> None:
    lease = lab.running()
    append(lab, lease, 0, b"a" * PIECE)
    for more in (b"bc", b"bcd"):
        append(lab, lease, PIECE, more)
    append(lab, lease, PIECE + 1, b"CDE")
    assert read(lab, lease) == (0, b"a" * PIECE + b"bCDE")


def test_of_a_flood_the_first_and_the_last_are_kept(lab: Any) -> None:
    lease = lab.running()
    for number in range(30):
        append(lab, lease, number * PIECE, bytes([number]) * PIECE)
    kept = logs.KEPT_BYTES // PIECE
    start, head = read(lab, lease)
    assert (start, head) == (0, b"".join(bytes([number]) * PIECE for number in range(kept)))
    start, tail = read(lab, lease, len(head))
    assert (start, tail) == ((30 - kept) * PIECE, b"".join(bytes([number]) * PIECE for number in range(30 - kept, 30)))
    # A line now and then makes no row each.
    for number in range(50):
        append(lab, lease, 30 * PIECE + number, b".")
    assert len(lab.everything()["job_logs"]) <= 2 * kept + 2


def test_the_last_lines_are_found_from_the_end(lab: Any) -> None:
    lease = lab.running()
    text = b"".join(b"%06d\n" % number for number in range(30_000))
    for start in range(0, len(text), PIECE):
        append(lab, lease, start, text[start : start + PIECE])
    with lab.database.read() as session:
        found = logs.tail(session, lease.job_id, lease.attempt, 3, 1 << 20)
        most = logs.tail(session, lease.job_id, lease.attempt, 10**9, 70_000)
        none = logs.tail(session, lease.job_id, 2, 3, 1 << 20)
    assert (found.data, found.end) == (b"029997\n029998\n029999\n", len(text))
    assert most.data == text[-70_000:]
    assert (none.data, none.end) == (b"", 0)


def test_whoever_lost_the_lease_stores_nothing(lab: Any) -> None:
    lease = lab.running()
    lab.finish(lease, Released())
    before = lab.everything()
    with pytest.raises(StaleLease):
        append(lab, lease, 0, b"late")
    assert lab.everything() == before


def test_it_goes_with_its_job(lab: Any) -> None:
    lease = lab.running()
    append(lab, lease, 0, b"line\n" * 1000)
    lab.finish(lease, Succeeded("budget", {}))
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))
    deleted = 1
    while deleted:
        with lab.database.write() as session:
            deleted = purging.purge(session)
    assert lab.everything()["job_logs"] == lab.everything()["jobs"] == []
