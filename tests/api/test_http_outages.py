"""A database that is away, busy, slow, standing still, or not what it should be."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import event, text

from api import readiness
from store import keys
from store.database import Database
from store.files import CHUNK_BYTES
from tests.api.trouble import api_process, until, writer_that_stands_still
from tests.proxy import Proxy


def test_without_its_database_the_service_says_503_and_recovers(postgresql_url: str, serve: Callable[..., Any]) -> None:
    name = postgresql_url.split("?")[0].rsplit("/", 1)[1]
    with serve(postgresql_url) as api:
        made = api.submit()
        api.database.dispose()
        with psycopg.connect(postgresql_url.replace(f"/{name}", "/postgres"), autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            for address in ("/readyz", f"/v1/experiments/{made}", f"/v1/experiments/{made}/results"):
                answer = api.client.get(address)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) >= 1
            assert api.client.get("/readyz").json()["database"] == "unreachable"
            assert api.client.post("/v1/experiments", json={}).status_code == 503
            assert api.client.get("/healthz").json() == {"status": "ok"}
            admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        assert api.client.get(f"/v1/experiments/{made}").json()["state"] == "queued"


def all_at_once(api: Any, addresses: list[str]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    with (
        httpx.Client(base_url=api.url, headers=api.client.headers, timeout=300, limits=limits) as client,
        concurrent.futures.ThreadPoolExecutor(len(addresses)) as pool,
    ):
        return list(pool.map(client.get, addresses))


def test_many_requests_at_once_wait_for_one_another_and_for_nothing_else(api: Any) -> None:
    """Eighty used to be enough: forty threads waited for sixteen connections whose holders waited for a thread."""
    one = f"/v1/experiments/{api.submit()}"
    addresses = [one, f"{one}/results", "/v1/experiments", f"{one}/metrics", "/healthz", "/readyz"] * 20
    assert {answer.status_code for answer in all_at_once(api, addresses)} == {200}


def test_a_writer_that_stands_still_holds_up_no_reader(sqlite_url: str, serve: Callable[..., Any]) -> None:
    # Nobody who writes gives up while the others read, however long that takes.
    with serve(sqlite_url, database_seconds=60.0) as api, concurrent.futures.ThreadPoolExecutor(20) as pool:
        one = f"/v1/experiments/{api.submit()}"
        with writer_that_stands_still(sqlite_url):
            posts = [pool.submit(api.client.post, "/v1/experiments", json={}) for _ in range(20)]
            until(lambda: len(api.server.server_state.tasks) == 20)
            for address in (one, "/readyz", "/healthz") * 10:
                assert api.client.get(address).status_code == 200
            assert not any(post.done() for post in posts)
        assert {post.result().status_code for post in posts} == {202}


def test_writers_who_wait_in_vain_are_told_and_the_next_is_served(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, database_seconds=0.5) as api, concurrent.futures.ThreadPoolExecutor(20) as pool:
        with writer_that_stands_still(sqlite_url):
            posts = [pool.submit(api.client.post, "/v1/experiments", json={}) for _ in range(20)]
            assert {post.result().status_code for post in posts} == {503}
        until(lambda: api.client.post("/v1/experiments", json={}).status_code == 202)


def test_long_reads_hold_up_no_short_ones(
    postgresql_url: str, serve: Callable[..., Any], by_hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who looks whether workers are there looks at every table, and is not waited for.
    for name in ("_PATIENCE_SECONDS", "_LITTLE_PATIENCE_SECONDS"):
        monkeypatch.setattr(readiness, name, 0.05)
    with serve(postgresql_url, database_seconds=300.0) as api, concurrent.futures.ThreadPoolExecutor(20) as pool:
        one = f"/v1/experiments/{api.submit()}"
        hand = by_hand(api.database)
        hand.start()
        hand.metrics(1, loss=[1.0])
        file = f"{one}/checkpoints/{hand.checkpoint('best', 1, bytes(CHUNK_BYTES + 1))}/content"
        large = json.dumps({"name": "x" * 20_000})
        # Not the table of summaries, of which a listing reads a row an experiment.
        with locked(api.database, "metric_segments"):
            series = [pool.submit(api.client.get, f"{one}/metrics") for _ in range(20)]
            for address in (one, "/v1/experiments", f"{one}/events", file) * 4:
                assert api.client.get(address).status_code == 200
            # What a body says is in no database.
            for send, address in (("POST", "/v1/experiments"), ("POST", f"{one}/clone"), ("PATCH", one)):
                assert api.client.request(send, address, content=large).status_code == 422
            assert not any(answer.done() for answer in series)
        assert {answer.result().status_code for answer in series} == {200}


def test_a_long_read_whose_client_left_is_not_begun(postgresql_url: str, serve: Callable[..., Any]) -> None:
    with serve(postgresql_url) as api:
        address = f"/v1/experiments/{api.submit()}/metrics"
        request = f"GET {address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
        tasks, begun = api.server.server_state.tasks, []
        engine = api.server._service.database.engine
        event.listen(engine, "before_cursor_execute", lambda *told: begun.append("metric_series" in told[2]))
        with locked(api.database, "metric_series"):
            for _ in range(12):
                with socket.create_connection(("127.0.0.1", api.port)) as connection:
                    connection.sendall(request)
                    until(lambda: len(tasks) > 0)
            until(lambda: not tasks)
        assert api.client.get(address).status_code == 200
        # Both threads had one when the table was locked.
        assert sum(begun) <= 3


@contextlib.contextmanager
def locked(database: Database, table: str) -> Iterator[None]:
    """Nobody can read a table of PostgreSQL."""
    with database.write() as session:
        session.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_request_that_the_end_breaks_off_is_told_so_and_is_no_error(sqlite_url: str, database: Database) -> None:
    with database.write() as session:
        headers = {"Authorization": f"Bearer {keys.create(session, 'test').secret}"}
    # They would wait for the database for longer than anybody here waits for them.
    limits = {"BNLAB_GRACEFUL_SHUTDOWN_SECONDS": "1", "BNLAB_DATABASE_SECONDS": "600"}
    with api_process(sqlite_url, **limits) as api, contextlib.ExitStack() as stack:
        assert httpx.get(f"{api.url}/v1/experiments", headers=headers, timeout=300).status_code == 200
        with writer_that_stands_still(sqlite_url):
            stuck = [http.client.HTTPConnection("127.0.0.1", api.port, timeout=300) for _ in range(4)]
            for one in stuck:
                stack.callback(one.close)
                one.request("POST", "/v1/experiments", "{}", headers)
            # It comes behind them, on a connection of its own: once it is answered, they are in.
            assert httpx.get(f"{api.url}/v1/experiments", headers=headers, timeout=300).status_code == 200
            api.running.send_signal(signal.SIGTERM)
            answers = [one.getresponse() for one in stuck]
            assert {(one.status, json.loads(one.read())["code"]) for one in answers} == {(503, "shutting_down")}
            assert api.running.wait(60) == 0
        assert [line["event"] for line in api.logged() if "exception" in line] == []


CHANGES = {
    "a table": ("ALTER TABLE metric_series RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO metric_series"),
    "a column": (
        "ALTER TABLE jobs RENAME COLUMN priority TO elsewhere",
        "ALTER TABLE jobs RENAME COLUMN elsewhere TO priority",
    ),
    "the keys": ("ALTER TABLE api_keys RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO api_keys"),
}


@pytest.mark.parametrize(("change", "back"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_migration_would_bring_is_said_to_be_missing_and_is_no_outage(
    request: pytest.FixtureRequest, kind: str, serve: Callable[..., Any], change: str, back: str
) -> None:
    with serve(request.getfixturevalue(f"{kind}_url"), key_cache_seconds=0.0) as api:
        one = f"/v1/experiments/{api.submit()}"
        with api.database.write() as session:
            session.execute(text(change))
        try:
            for address in (f"{one}/results", "/readyz"):
                answer = api.client.get(address)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unusable")
                assert "python -m store migrate" in answer.json()["detail"]
                assert int(answer.headers["retry-after"]) >= 1
                assert "elsewhere" not in answer.text
            if "metric_series" not in change:
                assert api.client.post("/v1/experiments", json={}).json()["code"] == "database_unusable"
        finally:
            with api.database.write() as session:
                session.execute(text(back))
        for address in ("/readyz", f"{one}/results"):
            assert api.client.get(address).status_code == 200


def test_a_session_that_the_database_ended_is_an_outage_and_the_next_request_is_served(
    postgresql_url: str, serve: Callable[..., Any]
) -> None:
    with serve(postgresql_url) as api:
        made = api.submit()
        with psycopg.connect(postgresql_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert api.client.get(f"/v1/experiments/{made}").status_code in (200, 503)
        assert api.client.get(f"/v1/experiments/{made}").status_code == 200


@pytest.fixture
def silenced(postgresql_url: str) -> Iterator[tuple[Proxy, str]]:
    """A way to the test's PostgreSQL database on which answers can be held back, and its URL."""
    with psycopg.connect(postgresql_url) as connection:
        info = connection.info
        place = f"{info.host}/.s.PGSQL.{info.port}"
        user, name = info.user, info.dbname

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(place)
        return server

    proxy = Proxy(connect)
    yield proxy, f"postgresql://{user}@127.0.0.1:{proxy.port}/{name}"
    proxy.cut()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_stands_still_stops_neither_probes_nor_the_end(
    silenced: tuple[Proxy, str], database: Database
) -> None:
    proxy, url = silenced
    with database.write() as session:
        headers = {"Authorization": f"Bearer {keys.create(session, 'test').secret}"}
    limits = {
        "BNLAB_DATABASE_SECONDS": "0.5",
        "BNLAB_GRACEFUL_SHUTDOWN_SECONDS": "1",
        "BNLAB_READINESS_CACHE_SECONDS": "0",
    }
    with (
        api_process(url, **limits) as api,
        httpx.Client(base_url=api.url, headers=headers, timeout=300, limits=httpx.Limits()) as client,
        concurrent.futures.ThreadPoolExecutor(30) as pool,
    ):
        # On a busy machine, half a second may be too short for a first connection.
        for address in ("/v1/experiments", "/readyz"):
            until(lambda address=address: client.get(address).status_code == 200)
        proxy.withhold_answers()
        stuck = [pool.submit(client.get, "/v1/experiments") for _ in range(30)]
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, "unreachable")
        assert {answer.result().status_code for answer in stuck} == {503}
        # The threads that asked will never be answered.
        api.running.send_signal(signal.SIGTERM)
        assert api.running.wait(60) == 0
