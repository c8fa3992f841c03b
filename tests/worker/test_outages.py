"""Broker, relay, API and database go away and come back while experiments wait or train."""

import random
import socket
import time

import numpy as np
import psycopg
import pytest

from tests.conftest import free_port
from tests.proxy import Proxy


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


def test_an_experiment_submitted_without_a_broker_trains_once_there_is_one(make_stack, sqlite_url, redis_server):
    broker = redis_server()
    stack = make_stack(sqlite_url, broker.url)
    stack.start_warm("relay", "worker")
    broker.stop()
    stack.await_log("relay", "does_not_work")
    experiment = stack.submit(_long(steps=50))
    broker.start()
    assert stack.await_state(experiment).state == "succeeded"

    # Its data lost: what was rung before is gone, what waits is rung again.
    running, waiting = stack.submit(_long()), stack.submit(_long(steps=50))
    stack.await_step(running, 100)
    broker.stop()
    broker.start()
    stack.cancel(running)
    assert stack.await_state(waiting).state == "succeeded"


def test_relay_and_api_restart_under_a_running_experiment_and_nothing_is_lost(make_stack, sqlite_url, redis_url, specs):
    stack = make_stack(sqlite_url, redis_url, BNLAB_PORT=str(free_port()))
    stack.start_warm("relay", "worker")
    stack.start("api")
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


def test_a_database_that_is_away_for_two_leases_restarts_nothing(
    make_stack, proxy, proxied_url, postgresql_url, redis_url
):
    stack = make_stack(postgresql_url, redis_url, BNLAB_DATABASE_URL=proxied_url)
    stack.start_warm("relay", "worker")
    experiment = stack.submit(_long())
    stack.await_step(experiment, 500)
    proxy.cut()
    stack.await_log("worker", "database_away")
    before = stack.experiment(experiment)
    gone = time.monotonic() + 2 * 2.0
    stack.until("two leases have passed", lambda: time.monotonic() > gone)
    proxy.mend()
    stack.await_log("worker", "database_back")
    # The trainer went on meanwhile: what it did is stored, and it still trains.
    stack.await_step(experiment, before.step + 1)
    stack.until("one more lease has passed", lambda: time.monotonic() > gone + 2 * 2.0)
    stack.cancel(experiment)
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("cancelled", 1, 0)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, row.step + 1))
    assert "reaped" not in stack.logged("relay")


def test_a_commit_whose_answer_was_lost_is_stored_once(make_stack, proxy, proxied_url, postgresql_url, redis_url):
    stack = make_stack(postgresql_url, redis_url, BNLAB_DATABASE_URL=proxied_url)
    stack.start_warm("relay", "worker")
    experiment = stack.submit(_long())
    stack.await_step(experiment, 1)
    dice = random.Random(0)
    for _ in range(8):
        step = stack.experiment(experiment).step
        proxy.withhold_answers()
        withheld = time.monotonic() + dice.uniform(0.05, 0.3)
        stack.until("some answers are lost", lambda until=withheld: time.monotonic() > until)
        proxy.drop()
        proxy.allow_answers()
        stack.await_step(experiment, step + 1)
    stack.cancel(experiment)
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("cancelled", 1, 0)
    for key, (steps, values) in stack.series(experiment).items():
        assert len(steps) == len(set(steps)) == len(values), key
    steps, values = stack.series(experiment)["train/loss"]
    assert steps == list(range(1, row.step + 1))
    assert np.isfinite(values).all()
