"""Keys, health, an absent database, and the process itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api import errors
from store import keys, processes
from store.errors import StoreError
from store.processes import Heartbeat
from tests.api.trouble import api_process, until, writer_that_stands_still


def operations(api: Any) -> list[tuple[str, str]]:
    paths = api.server.config.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def assert_refused(answer: httpx.Response, what: str) -> None:
    assert answer.status_code == 401, what
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"


def filled(path: str) -> str:
    for noun in ("experiment", "checkpoint", "key"):
        path = path.replace(f"{{{noun}_id}}", f"{noun[:3].replace('che', 'ckp')}_{'0' * 32}")
    return path


def test_everything_under_v1_needs_a_key(shared_api: Any) -> None:
    behind = [(method, path) for method, path in operations(shared_api) if path.startswith("/v1")]
    assert len(behind) == 111
    with httpx.Client(base_url=shared_api.url, timeout=300) as stranger:
        for method, path in behind:
            assert_refused(stranger.request(method, filled(path), content=b"{"), f"{method} {path}")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer \xff"], ids=repr)
def test_anything_but_a_key_is_none(shared_api: Any, authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    assert_refused(shared_api.client.get("/v1/experiments", headers=headers), authorization)


def test_a_revoked_key_opens_nothing_a_moment_later(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, key_cache_seconds=0.1) as api:
        with api.database.write() as session:
            other = keys.create(session, "other")
        headers = {"Authorization": f"Bearer {other.secret}"}
        assert httpx.get(f"{api.url}/v1/experiments", headers=headers, timeout=300).status_code == 200
        with api.database.write() as session:
            keys.revoke(session, other.id)
        until(lambda: httpx.get(f"{api.url}/v1/experiments", headers=headers, timeout=300).status_code == 401)


def test_the_use_of_a_key_is_noted_without_any_request_waiting_for_it(
    sqlite_url: str, serve: Callable[..., Any]
) -> None:
    with serve(sqlite_url, key_use_seconds=0.05) as api:
        with writer_that_stands_still(sqlite_url):
            assert api.client.get("/v1/experiments").status_code == 200
            assert api.client.get("/readyz").status_code == 200
            assert not any(used(api))
        until(lambda: all(used(api)))


def test_a_use_is_noted_when_the_service_ends(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url) as api:
        api.client.get("/v1/experiments")
    assert all(used(api))


def used(api: Any) -> list[bool]:
    with api.database.read() as session:
        return [key.last_used_at is not None for key in keys.list_all(session)]


@pytest.mark.parametrize("kind", [*StoreError.__subclasses__(), *errors.ApiError.__subclasses__()])
def test_every_refusal_has_a_status(kind: type[Exception]) -> None:
    assert 400 <= errors.STATUS[kind] <= 504  # type: ignore[index]


@pytest.mark.parametrize("noun", [
    "normalizers", "networks", "data", "initializers", "optimizers", "schedules", "losses", "diagnostics",
])  # fmt: skip
def test_the_catalog_lists_every_kind_with_its_schema(shared_api: Any, noun: str) -> None:
    from bncore.spec import kinds

    shown = shared_api.client.get(f"/v1/{noun}").json()["data"]
    assert shown == [{"kind": it.kind, "description": it.description, "schema": it.schema} for it in kinds(noun)]
    assert all(it["description"] and it["schema"]["properties"]["kind"] for it in shown)


def test_readiness_says_in_words_what_is_there(api: Any) -> None:
    ready = httpx.get(f"{api.url}/readyz", timeout=300)
    words = {"status": "ready", "database": "ok", "broker": "unknown", "relay": "absent", "workers": "absent"}
    assert (ready.status_code, ready.json()) == (200, {**words, "devices": {}})
    with api.database.write() as session:
        processes.beat(session, Heartbeat("prc_1", "relay", "host", 1, broker_ok=False))
    assert httpx.get(f"{api.url}/readyz", timeout=300).json() == {
        **words,
        "broker": "unreachable",
        "relay": "ok",
        "devices": {},
    }
    with api.database.write() as session:
        processes.beat(session, Heartbeat("prc_2", "worker", "host", 2, device="cpu", broker_ok=True))
    everything = {**words, "broker": "ok", "relay": "ok", "workers": "ok", "devices": {"cpu": 1}}
    assert httpx.get(f"{api.url}/readyz", timeout=300).json() == everything


def test_the_process_ends_well_when_asked(sqlite_url: str) -> None:
    with api_process(sqlite_url) as api:
        assert httpx.get(f"{api.url}/healthz", timeout=300).json() == {"status": "ok"}
        api.running.send_signal(signal.SIGTERM)
        assert api.running.wait(60) == 0


def test_the_process_ends_with_its_parents_pipe(sqlite_url: str) -> None:
    with api_process(sqlite_url, BNLAB_EXIT_ON_EOF="1") as api:
        assert httpx.get(f"{api.url}/v1/experiments", timeout=300).status_code == 401
        assert api.running.stdin is not None
        api.running.stdin.close()
        assert api.running.wait(60) == 0
        lines = list(api.logged())
    (request,) = [line for line in lines if line["event"] == "request"]
    assert (request["path"], request["status"]) == ("/v1/experiments", 401)
    assert request["request_id"]


def test_a_process_whose_port_is_taken_says_so(sqlite_url: str, shared_api: Any) -> None:
    variables = {**os.environ, "BNLAB_DATABASE_URL": sqlite_url, "BNLAB_PORT": str(shared_api.port)}
    ended = subprocess.run([sys.executable, "-m", "api"], env=variables, capture_output=True, timeout=120)
    assert ended.returncode == 3
    assert b"address already in use" in ended.stderr.lower()
