"""When reaping is safe, and what a jump of the clock does to deadlines."""

import pytest
from sqlalchemy import update

from bncore.spec import load_spec
from store import experiments, work
from store.columns import core
from store.database import now
from store.experiments import Submission
from store.jobs import leases
from store.jobs.leases import Terms, Worker
from store.tables import Job, Watch
from worker.housekeeping import Purge, Reaper

# Longer than these tests take on any machine, which are no seconds by the clock that they turn.
LEASE_SECONDS = 600.0


class _Clock:
    """This process's own clock, as far as the reaper knows."""

    moment = 100.0

    def __call__(self):
        return self.moment


@pytest.fixture
def running(database):
    """An experiment with a deadline whose lease has expired."""
    with database.write() as session:
        spec = load_spec({"deadline_seconds": 100.0})
        made = experiments.submit(session, Submission.of(spec), owner="own_tests", device="cpu")
        worker = Worker("prc_1", "cpu", "model", "2.13.0")
        work.take(session, worker, Terms(LEASE_SECONDS), leases.new_token())
        session.execute(update(core(Job)).values(lease_expires_at=Job.lease_expires_at - (LEASE_SECONDS + 60.0)))
    return made.id


def _state(database, experiment_id):
    with database.read() as session:
        return experiments.get(session, experiment_id).state


def _trust(database):
    """As if the reaper had looked all the time for long."""
    with database.write() as session:
        session.execute(update(core(Watch)).values(looked_at=now(session), trusted_from=now(session) - 1.0))


def _reaper(database, clock):
    return Reaper(database, lease_seconds=LEASE_SECONDS, every_seconds=300.0, clock=clock)


def test_nothing_is_reaped_until_workers_had_a_lease_to_renew_since_the_first_look(database, running):
    _reaper(database, _Clock()).turn()
    assert _state(database, running) == "running"
    _trust(database)
    _reaper(database, _Clock()).turn()
    assert _state(database, running) == "queued"


def test_a_relay_that_is_started_again_and_again_reaps_all_the_same(database, running):
    _reaper(database, _Clock()).turn()
    with database.write() as session:
        session.execute(update(core(Watch)).values(trusted_from=Watch.trusted_from - LEASE_SECONDS))
    _reaper(database, _Clock()).turn()
    assert _state(database, running) == "queued"


def test_a_jump_of_the_databases_clock_counts_towards_no_deadline(database, running):
    clock = _Clock()
    reaper = _reaper(database, clock)
    reaper.turn()
    # By this clock 4,000 seconds less have passed than by the database's: that one has jumped.
    clock.moment -= 4000.0
    reaper.turn()
    with database.read() as session:
        assert experiments.get(session, running).paused_seconds == pytest.approx(4000.0, abs=300.0)
    assert _state(database, running) == "running"


def test_turns_of_an_empty_database_do_nothing(database):
    Reaper(database, lease_seconds=1.0, every_seconds=0.2).turn()
    assert Purge(database).turn() is False
