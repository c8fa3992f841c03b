"""Clocks that jump, relays that restart, databases that cannot write: what lives and renews is never reaped."""

from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from store.errors import StaleLease
from store.jobs import leases, reaper
from store.jobs.leases import Lease
from store.jobs.reaper import Reaped
from store.jobs.states import State

LEASE, GAP = 60.0, 10.0


def turn(lab: Any) -> list[Reaped]:
    """What a relay does every few seconds: it looks, and acts if that can be believed."""
    with lab.database.write() as session:
        look = reaper.look(session, lease_seconds=LEASE, longest_gap_seconds=GAP)
    if not look.trusted:
        return []
    with lab.database.write() as session:
        return [*reaper.reap(session), *reaper.end_overdue(session)]


def renew(lab: Any, lease: Lease) -> None:
    with lab.database.write() as session:
        leases.renew(session, lease)


def pass_time(lab: Any, seconds: float, *living: Lease) -> list[Reaped]:
    """So many seconds in turns of five, in which some workers renew."""
    reaped = []
    for _ in range(int(seconds / 5)):
        lab.jump(5)
        for lease in living:
            renew(lab, lease)
        reaped += turn(lab)
    return reaped


def test_one_who_renews_lives_and_one_who_does_not_is_lost(lab: Any) -> None:
    living, dead = lab.running(), lab.running()
    assert turn(lab) == []
    assert pass_time(lab, 2 * LEASE + 10, living) == [Reaped(dead.job_id, 1, State.QUEUED)]
    renew(lab, living)
    with pytest.raises(StaleLease):
        renew(lab, dead)


def test_a_relay_that_is_restarted_every_few_seconds_still_reaps(lab: Any) -> None:
    # What it knows is a row: a turn is a new process to the store.
    dead = lab.running()
    reaped = []
    for _ in range(30):
        lab.jump(5)
        lab.database.dispose()
        reaped += turn(lab)
    assert reaped == [Reaped(dead.job_id, 1, State.QUEUED)]


@pytest.mark.parametrize("seconds", [600, 4000])
def test_a_clock_that_jumps_ahead_reaps_nobody_who_renews_within_a_lease(lab: Any, seconds: float) -> None:
    living, dead = lab.running(), lab.running()
    pass_time(lab, 30, living, dead)
    lab.jump(seconds)
    assert turn(lab) == []
    # The living one's trainer is silent: its worker renews at the end of its interval.
    assert pass_time(lab, 20) == []
    renew(lab, living)
    assert pass_time(lab, LEASE, living) == [Reaped(dead.job_id, 1, State.QUEUED)]


def test_a_clock_that_is_set_back_keeps_nobody_dead_running(lab: Any) -> None:
    living, dead = lab.running(), lab.running()
    pass_time(lab, 30, living, dead)
    lab.jump(-3600)
    assert turn(lab) == []
    assert pass_time(lab, 2 * LEASE + 10, living) == [Reaped(dead.job_id, 1, State.QUEUED)]


def test_a_gap_between_looks_gives_everybody_a_lease(lab: Any) -> None:
    lease = lab.running()
    pass_time(lab, LEASE + 10, lease)
    lab.jump(LEASE + 5)  # everything stood: a laptop, the database, the relay
    assert turn(lab) == []
    renew(lab, lease)
    assert pass_time(lab, 30, lease) == []


def test_a_jump_does_not_count_towards_deadlines(lab: Any) -> None:
    lease = lab.running(deadline_seconds=1000.0)
    lab.release(lease)
    pass_time(lab, LEASE + 10)
    lab.jump(4000)
    with lab.database.write() as session:
        reaper.forgive(session, 4000)
    assert pass_time(lab, LEASE + 10) == []
    assert lab.claim().seconds_left == pytest.approx(1000 - 2 * LEASE - 20, abs=100)


def test_a_deadline_ends_what_waits_and_leaves_what_runs_to_its_worker(lab: Any) -> None:
    waits = lab.running(deadline_seconds=100.0)
    runs = lab.running(deadline_seconds=100.0)
    fresh = lab.submit(deadline_seconds=100.0)
    lab.release(waits)
    paused = lab.running(deadline_seconds=100.0)
    assert paused.job_id == waits.job_id
    lab.release(paused)
    assert pass_time(lab, 200, runs) == [Reaped(waits.job_id, 2, State.FAILED)]
    row = lab.get(waits.job_id)
    assert (row.failure_code, row.finished_at is not None) == ("deadline", True)
    # It has not begun, so its time has not.
    assert lab.get(fresh).state is State.QUEUED


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_where_reads_work_and_writes_do_not_nobody_has_looked(lab: Any) -> None:
    lease = lab.running()
    pass_time(lab, LEASE + 10, lease)
    engine = lab.database.engine
    with engine.connect() as migration:
        migration.execute(text("LOCK TABLE jobs IN SHARE MODE"))
        # The reader that a weaker probe would be.
        assert lab.get(lease.job_id).state is State.RUNNING
        for act in (lambda: renew(lab, lease), lambda: turn(lab)):
            with pytest.raises(OperationalError, match="lock timeout"):
                impatient(lab, act)
    lab.jump(75)
    assert turn(lab) == []
    renew(lab, lease)
    assert pass_time(lab, 30, lease) == []


def impatient(lab: Any, act: Any) -> None:
    """Wait for a lock no longer than a moment, where a service waits for seconds."""

    def hurry(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")

    event.listen(lab.database.engine, "begin", hurry)
    try:
        act()
    finally:
        event.remove(lab.database.engine, "begin", hurry)
