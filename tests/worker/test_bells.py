"""From the outbox to a real broker, and back after the broker has lost everything."""

import pytest

from bncore.spec import load_spec
from store import experiments, processes
from store.experiments import Submission
from store.jobs.bells import hanging
from worker.bells import Bells
from worker.broker import Broker
from worker.celery_app import create_celery


@pytest.fixture
def broker_server(redis_server):
    return redis_server()


@pytest.fixture
def broker(broker_server):
    broker = Broker(create_celery(broker_server.url), broker_server.url)
    yield broker
    broker.close()


@pytest.fixture
def bells(database, broker):
    return Bells(database, broker)


def _submit(database, count=1):
    with database.write() as session:
        for _ in range(count):
            experiments.submit(session, Submission.of(load_spec({})), owner="own_tests", device="cpu")


def _outbox(database):
    with database.read() as session:
        return len(hanging(session))


def _live_workers(database, count):
    with database.write() as session:
        for number in range(count):
            beat = processes.Heartbeat(id=f"prc_{number}", kind="worker", host="h", pid=number, device="cpu")
            processes.beat(session, beat)


def test_a_queue_is_rung_and_its_bells_leave_the_outbox(database, broker, bells):
    _submit(database, 3)
    assert bells.ring() is False
    assert broker.waiting("cpu") == 1
    assert broker.waiting("cuda") == 0
    assert _outbox(database) == 0
    bells.ring()
    assert broker.waiting("cpu") == 1


@pytest.mark.parametrize(("queued", "messages"), [(1, 1), (3, 3), (200, 4)])
def test_a_queue_is_rung_for_as_many_workers_as_could_help(database, broker, bells, queued, messages):
    _submit(database, queued)
    _live_workers(database, 4)
    while bells.ring():
        continue
    assert broker.waiting("cpu") == messages
    assert _outbox(database) == 0


def test_bells_stay_in_the_outbox_while_the_broker_is_away(database, broker, broker_server, bells):
    _submit(database)
    broker_server.stop()
    assert not broker.answers()
    with pytest.raises(Exception, match="refused"):
        bells.ring()
    assert _outbox(database) == 1
    broker_server.start()
    assert broker.answers()
    bells.ring()
    assert broker.waiting("cpu") == 1
    assert _outbox(database) == 0
