"""From the outbox to a real broker, and back after the broker has lost everything."""

import pytest
import redis

from bncore.spec import load_spec
from store import experiments, work
from store.experiments import Submission
from store.jobs import leases
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
    return Bells(database, broker, rering_seconds=0.0)


def _submit(database, count=1):
    with database.write() as session:
        for _ in range(count):
            experiments.submit(session, Submission.of(load_spec({})), owner="own_tests", device="cpu")


def _outbox(database):
    with database.read() as session:
        return len(hanging(session))


def test_each_queued_experiment_rings_once_and_leaves_the_outbox(database, broker, bells):
    _submit(database, 3)
    assert bells.ring() is False
    assert broker.waiting("cpu") == 3
    assert broker.waiting("cuda") == 0
    assert _outbox(database) == 0
    bells.ring()
    assert broker.waiting("cpu") == 3


def test_more_bells_than_fit_into_one_turn_ask_for_another(database, broker, bells):
    _submit(database, 101)
    assert bells.ring() is True
    assert bells.ring() is False
    assert broker.waiting("cpu") == 101


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


def test_a_queue_whose_bells_were_lost_is_rung_again(database, broker, broker_server, bells):
    _submit(database, 2)
    bells.ring()
    bells.ring_again()
    assert broker.waiting("cpu") == 2
    with redis.Redis.from_url(broker_server.url) as client:
        client.flushall()
    bells.ring_again()
    assert broker.waiting("cpu") == 2


def test_a_queue_that_was_claimed_from_lately_is_not_rung_again(database, broker):
    _submit(database, 2)
    with database.write() as session:
        assert work.take(session, leases.Worker("prc_1", "cpu", "model", "2.0"), leases.Terms(60.0), leases.new_token())
    Bells(database, broker, rering_seconds=60.0).ring_again()
    assert broker.waiting("cpu") == 0
    Bells(database, broker, rering_seconds=0.0).ring_again()
    assert broker.waiting("cpu") == 1
