"""Keys, health, an absent database, and the process itself."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from api import errors
from store import keys, processes
from store.errors import StoreError
from store.processes import Heartbeat


def operations(api: Any) -> list[tuple[str, str]]:
    paths = api.server.config.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def assert_refused(answer: httpx.Response, what: str) -> None:
    assert answer.status_code == 401, what
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"


def filled(path: str) -> str:
    return path.replace("{experiment_id}", "exp_" + "0" * 32).replace("{checkpoint_id}", "ckp_" + "0" * 32)


def test_everything_under_v1_needs_a_key(shared_api: Any) -> None:
    behind = [(method, path) for method, path in operations(shared_api) if path.startswith("/v1")]
    assert len(behind) == 19
    with httpx.Client(base_url=shared_api.url) as stranger:
        for method, path in behind:
            assert_refused(stranger.request(method, filled(path), content=b"{"), f"{method} {path}")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer \xff"], ids=repr)
def test_anything_but_a_key_is_none(shared_api: Any, authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    assert_refused(shared_api.client.get("/v1/experiments", headers=headers), authorization)


def test_a_revoked_key_opens_nothing(sqlite_api: Any) -> None:
    with sqlite_api.database.write() as session:
        other = keys.create(session, "other")
    headers = {"Authorization": f"Bearer {other.secret}"}
    assert httpx.get(f"{sqlite_api.url}/v1/experiments", headers=headers).status_code == 200
    with sqlite_api.database.write() as session:
        keys.revoke(session, other.id)
    assert httpx.get(f"{sqlite_api.url}/v1/experiments", headers=headers).status_code == 401


def test_the_use_of_a_key_is_noted(sqlite_api: Any) -> None:
    sqlite_api.client.get("/v1/experiments")
    with sqlite_api.database.read() as session:
        assert all(key.last_used_at is not None for key in keys.list_all(session))


@pytest.mark.parametrize("kind", [*StoreError.__subclasses__(), *errors.ApiError.__subclasses__()])
def test_every_refusal_has_a_status(kind: type[Exception]) -> None:
    assert 400 <= errors.STATUS[kind] < 500  # type: ignore[index]


@pytest.mark.parametrize("noun", [
    "normalizers", "networks", "datasets", "initializers", "optimizers", "schedules", "losses",
])  # fmt: skip
def test_the_catalog_lists_every_kind_with_its_schema(shared_api: Any, noun: str) -> None:
    from bncore.spec import kinds

    shown = shared_api.client.get(f"/v1/{noun}").json()["data"]
    assert shown == [{"kind": it.kind, "description": it.description, "schema": it.schema} for it in kinds(noun)]
    assert all(it["description"] and it["schema"]["properties"]["kind"] for it in shown)


def test_readiness_says_in_words_what_is_there(api: Any) -> None:
    ready = httpx.get(f"{api.url}/readyz")
    words = {"status": "ready", "database": "ok", "broker": "unknown", "relay": "absent", "workers": "absent"}
    assert (ready.status_code, ready.json()) == (200, {**words, "devices": {}})
    with api.database.write() as session:
        processes.beat(session, Heartbeat("prc_1", "relay", "host", 1, broker_ok=False))
    assert httpx.get(f"{api.url}/readyz").json() == {**words, "broker": "unreachable", "relay": "ok", "devices": {}}
    with api.database.write() as session:
        processes.beat(session, Heartbeat("prc_2", "worker", "host", 2, device="cpu", broker_ok=True))
    everything = {**words, "broker": "ok", "relay": "ok", "workers": "ok", "devices": {"cpu": 1}}
    assert httpx.get(f"{api.url}/readyz").json() == everything


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


def test_what_nobody_foresaw_is_a_500_problem_that_says_nothing(sqlite_api: Any) -> None:
    made = sqlite_api.submit()
    with sqlite_api.database.write() as session:
        session.connection().exec_driver_sql("UPDATE experiments SET tags = '[1, 2]'")
    answer = sqlite_api.client.get(f"/v1/experiments/{made}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert "tags" not in answer.text
    assert answer.json()["instance"].startswith("urn:uuid:")


@contextmanager
def process(database_url: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`python -m api` and its address, once its log says that it listens."""
    variables = {**os.environ, "BNLAB_DATABASE_URL": database_url, "BNLAB_PORT": "0", **environment}
    command = [sys.executable, "-m", "api"]
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            assert running.stderr is not None
            lines = (json.loads(line)["event"] for line in running.stderr)
            yield running, next(event.split()[3] for event in lines if event.startswith("Uvicorn running on"))
        finally:
            running.kill()


def test_the_process_ends_well_when_asked(sqlite_url: str) -> None:
    with process(sqlite_url) as (running, url):
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        running.send_signal(signal.SIGTERM)
        assert running.wait(15) == 0


def test_the_process_ends_with_its_parents_pipe(sqlite_url: str) -> None:
    with process(sqlite_url, BNLAB_EXIT_ON_EOF="1") as (running, url):
        assert httpx.get(f"{url}/v1/experiments").status_code == 401
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(15) == 0
        assert running.stderr is not None
        lines = [json.loads(line) for line in running.stderr]
    (request,) = [line for line in lines if line["event"] == "request"]
    assert (request["path"], request["status"]) == ("/v1/experiments", 401)
    assert request["request_id"]


def test_a_process_whose_port_is_taken_says_so(sqlite_url: str, shared_api: Any) -> None:
    variables = {**os.environ, "BNLAB_DATABASE_URL": sqlite_url, "BNLAB_PORT": str(shared_api.port)}
    ended = subprocess.run([sys.executable, "-m", "api"], env=variables, capture_output=True, timeout=30)
    assert ended.returncode == 3
    assert b"address already in use" in ended.stderr.lower()


def test_importing_the_api_imports_no_torch_and_does_nothing() -> None:
    code = "import sys, api, api.app, api.__main__, api.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
