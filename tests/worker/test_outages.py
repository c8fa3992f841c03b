"""Broker, relay, API and database go away and come back while experiments wait or train."""

import random
import socket
import time

import psycopg
import pytest

from store.jobs import bells
from store.tables import Watch
from tests.proxy import Proxy
from tests.worker.conftest import LEASE_SECONDS, SHORT_LEASE

# The lease is over, and the reaper would have looked.
OUTAGE_SECONDS = 1.25 * LEASE_SECONDS


@pytest.fixture
def proxy(postgresql_url):
    """In front of the PostgreSQL server of this test's database."""
    with psycopg.connect(postgresql_url) as connection:
        place = f"{connection.info.host}/.s.PGSQL.{connection.info.port}"

    def connect():
        server = socket.socket(socket.AF_UNIX)
        server.connect(place)
        return server

    proxy = Proxy(connect)
    yield proxy
    proxy.cut()


@pytest.fixture
def proxied_url(proxy, postgresql_url):
    with psycopg.connect(postgresql_url) as connection:
        info = connection.info
        return f"postgresql://{info.user}:{info.password}@127.0.0.1:{proxy.port}/{info.dbname}"


def _long(steps=1_000_000):
    return {"train": {"steps": steps}, "checkpoint": {"every_steps": 1000}}


def test_an_experiment_submitted_without_a_broker_trains_once_there_is_one(small_stack, broker):
    stack = small_stack
    failures = stack.logged("relay").count("does_not_work")
    broker.stop()
    experiment = stack.submit(_long(steps=50))
    stack.await_log("relay", "does_not_work", count=failures + 1)
    broker.start()
    assert stack.await_state(experiment).state == "succeeded"


def test_bells_that_the_broker_lost_are_rung_again(small_stack, broker):
    stack = small_stack
    running, waiting = stack.submit(_long()), stack.submit(_long(steps=50))
    stack.await_step(running, 100)
    stack.until("the bells are rung", lambda: not _hanging(stack))
    broker.stop()
    broker.start()
    stack.cancel(running)
    assert stack.await_state(waiting).state == "succeeded"
    assert stack.experiment(running).state == "cancelled"


@pytest.mark.system
def test_relay_and_api_restart_under_a_running_experiment_and_nothing_is_lost(small_stack, specs):
    stack = small_stack
    stack.start("api")
    stack.until("the API answers", lambda: _answers(stack))
    experiment = stack.submit(specs["cnn"])
    stack.await_step(experiment, 100)
    stack.kill("relay")
    stack.kill("api")
    waiting = stack.submit(_long(steps=50))
    stack.start("relay")
    stack.start("api")
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("succeeded", 1, 0)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, 901))
    assert stack.await_state(waiting).state == "succeeded"
    stack.until("the API answers", lambda: _answers(stack))
    stack.terminate("api")


@pytest.fixture
def stack(make_stack, proxied_url, postgresql_url):
    """Its processes see the database through the proxy, the test sees it as it is."""
    stack = make_stack(postgresql_url, **SHORT_LEASE, BNLAB_DATABASE_URL=proxied_url)
    stack.start_warm("relay", "worker")
    return stack


@pytest.mark.system
def test_an_outage_longer_than_a_lease_restarts_nothing_and_a_commit_without_answer_is_stored_once(stack, proxy):
    experiment = stack.submit(_long())
    stack.await_step(experiment, 500)
    proxy.cut()
    stack.await_log("worker", "database_away")
    before = stack.experiment(experiment)
    _let_pass(stack, OUTAGE_SECONDS)
    proxy.mend()
    stack.await_log("worker", "database_back")
    # The trainer went on meanwhile: what it did is stored, and it still trains.
    stack.await_step(experiment, before.step + 1)

    dice = random.Random(0)
    for _ in range(8):
        step = stack.experiment(experiment).step
        proxy.withhold_answers()
        _let_pass(stack, dice.uniform(0.05, 0.3))
        proxy.drop()
        stack.await_step(experiment, step + 1)

    _await_reaper(stack)
    stack.cancel(experiment)
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("cancelled", 1, 0)
    assert "reaped" not in stack.logged("relay")
    series = stack.series(experiment)
    assert series["train/loss"][0] == list(range(1, row.step + 1))
    assert series["test/loss"][0] == list(range(100, row.step + 1, 100))


@pytest.mark.system
def test_a_database_server_stopped_and_started_restarts_nothing(own_postgresql, make_stack):
    server, url = own_postgresql
    stack = make_stack(url, **SHORT_LEASE)
    stack.start_warm("relay", "worker")
    experiment = stack.submit(_long())
    stack.await_step(experiment, 500)
    server.stop()
    stack.await_log("worker", "database_away")
    _let_pass(stack, OUTAGE_SECONDS)
    server.start()
    stack.await_log("worker", "database_back")
    stack.await_step(experiment, stack.experiment(experiment).step + 1)
    _await_reaper(stack)
    stack.cancel(experiment)
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("cancelled", 1, 0)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, row.step + 1))


def _await_reaper(stack):
    """Until the relay has looked for lost leases, and believed what it saw, since everything is back."""

    def watch():
        with stack.database.read() as session:
            return session.get(Watch, "reaper")

    since = watch().looked_at
    stack.until("the reaper believes its eyes", lambda: since < watch().looked_at >= watch().trusted_from)


def _hanging(stack):
    with stack.database.read() as session:
        return bells.hanging(session)


def _let_pass(stack, seconds):
    end = time.monotonic() + seconds
    stack.until(f"{seconds} s have passed", lambda: time.monotonic() > end)


def _answers(stack):
    port = int(stack.environment["BNLAB_PORT"])
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
