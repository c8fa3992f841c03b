"""What every answer has: its request's id, the log's line, and headers that keep a browser from acting on it."""

import re
import socket
from typing import Any

import httpx
import pytest

from store import keys
from store.database import Database
from tests.api.trouble import api_process, until


def test_the_log_has_the_line_and_the_traceback_of_a_500_and_says_who_did_not_wait(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        key = keys.create(session, "test")
    headers = {"Authorization": f"Bearer {key.secret}"}
    with api_process(sqlite_url) as api, httpx.Client(base_url=api.url, headers=headers, timeout=300) as client:
        made = client.post("/v1/experiments", json={}).json()["id"]
        with socket.create_connection(("127.0.0.1", api.port)) as connection:
            connection.sendall(waiting_request(made, key.secret))
            assert client.get(f"/v1/experiments/{made}").status_code == 200
        with database.write() as session:
            session.connection().exec_driver_sql("UPDATE experiments SET tags = '[1, 2]'")
        answer = client.get(f"/v1/experiments/{made}")
        api.running.terminate()
        lines = list(api.logged())
    database.dispose()
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert "tags" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert answer.json()["instance"] == f"urn:uuid:{request_id}"
    found = {line["event"]: line for line in lines if line.get("request_id") == request_id}
    assert set(found) == {"unexpected_error", "request"}
    assert "Traceback" in found["unexpected_error"]["exception"]
    assert key.secret not in found["unexpected_error"]["exception"]
    assert (found["request"]["status"], found["request"]["experiment_id"]) == (500, made)
    (waited,) = [line for line in lines if line["event"] == "request" and line["path"].endswith("/results")]
    assert (waited["status"], waited["aborted"]) == (499, True)


def waiting_request(experiment_id: str, key: str) -> bytes:
    path = f"/v1/experiments/{experiment_id}/results?wait=60"
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def test_a_waiter_that_left_is_no_waiter(sqlite_api: Any) -> None:
    made = sqlite_api.submit()
    waiters = sqlite_api.server._service.changes._waiters
    with socket.create_connection(("127.0.0.1", sqlite_api.port)) as connection:
        connection.sendall(waiting_request(made, sqlite_api.key))
        until(lambda: len(waiters) == 1)
    until(lambda: not waiters)


@pytest.mark.parametrize(
    "path", ["/healthz", "/v1/experiments", "/v1/networks", "/nowhere", "/openapi.json", "/docs", "/"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_every_answer_says_that_nothing_in_it_may_act(shared_api: Any, path: str, method: str) -> None:
    headers = shared_api.client.request(method, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"]


def test_what_only_the_holder_of_a_key_may_see_is_kept_nowhere(shared_api: Any) -> None:
    made = shared_api.submit()
    for path in ("", f"/{made}/events", f"/{made}/metrics", f"/{made}/checkpoints", "/exp_1"):
        assert shared_api.client.get(f"/v1/experiments{path}").headers["cache-control"] == "no-store"
    assert shared_api.client.get(f"/v1/experiments/{made}").headers["cache-control"] == "no-cache"


def test_the_page_of_the_description_works_without_a_network_and_may_load_nothing_else(shared_api: Any) -> None:
    answer = httpx.get(f"{shared_api.url}/docs", timeout=300)
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    page = answer.text
    assert "//" not in page.replace("https://fastapi", "")
    for tag, directive, kind, least in (
        ('<script src="', "script-src", "text/javascript", 1_000_000),
        ('<link type="text/css" rel="stylesheet" href="', "style-src", "text/css", 100_000),
    ):
        address = page.split(tag)[1].split('"')[0]
        assert address.startswith("/docs/")
        assert policy[directive].split()[0] == "'self'"
        file = httpx.get(f"{shared_api.url}{address}", timeout=300)
        assert file.headers["content-type"].startswith(kind)
        assert len(file.content) > least
    assert page.count("<script>") == policy["script-src"].count("'sha256-") == 1
    assert "'unsafe-inline'" not in policy["script-src"]
    assert policy["connect-src"] == "'self'"


def test_the_root_says_what_this_is_and_leads_on(shared_api: Any) -> None:
    page = httpx.get(shared_api.url, headers={"Accept": "text/html,*/*"}, timeout=300)
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    links = re.findall(r'href="([^"]+)"', page.text)
    assert {"/docs", "/openapi.json", "/healthz", "/readyz"} <= set(links)
    assert all(httpx.get(f"{shared_api.url}{link}", timeout=300).status_code == 200 for link in links)
    plain = httpx.get(shared_api.url, timeout=300)
    assert plain.headers["content-type"].startswith("text/plain")
    assert all(link in plain.text for link in links)
