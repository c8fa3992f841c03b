"""What one owner may have and do at a time; nobody else notices when that is reached."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.holders import holder, status_with
from tests.api.trouble import until


def test_an_owner_who_asks_too_often_is_told_when_to_ask_again(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, requests_per_second=0.001, request_burst=4) as api, holder(api) as client:
        answers = [client.get("/v1/experiments") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"owner";q=4;w=4000'
        assert answers[0].headers["ratelimit"] == '"owner";r=3;t=1000'
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "too_many_requests"
        assert 800 <= int(refused.headers["retry-after"]) <= 1000
        assert refused.headers["ratelimit"].startswith('"owner";r=0;t=')
        assert api.client.get("/v1/experiments").status_code == 200
        assert httpx.get(f"{api.url}/healthz", timeout=300).status_code == 200


def test_who_waits_as_told_is_answered(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, requests_per_second=1.0, request_burst=1) as api:
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(api.client.get, "/v1/experiments") for _ in range(16)]
            assert {one.result().status_code for one in asked} == {200, 429}
        until(lambda: api.client.get("/v1/experiments").status_code == 200)


def test_all_keys_of_an_owner_share_one_limit_and_refusals_say_how_it_stands(
    sqlite_url: str, serve: Callable[..., Any]
) -> None:
    slow = serve(sqlite_url, requests_per_second=0.001, request_burst=2)
    with slow as api, holder(api, "team") as one, holder(api, "team", "read") as two:
        assert one.get("/v1/experiments").status_code == 200
        forbidden = two.post("/v1/experiments", json={})
        assert forbidden.status_code == 403
        assert forbidden.headers["ratelimit"].startswith('"owner";r=0;t=')
        assert 800 <= int(one.get("/v1/experiments").headers["retry-after"]) <= 1000


def test_without_a_limit_no_answer_speaks_of_one(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, requests_per_second=0.0, request_burst=1) as api:
        answers = [api.client.get("/v1/experiments") for _ in range(3)]
    assert all(answer.status_code == 200 and "ratelimit" not in answer.headers for answer in answers)


def test_who_guesses_keys_is_refused_before_the_database_is_asked(sqlite_url: str, serve: Callable[..., Any]) -> None:
    # One in a minute, which is longer than this test takes on any machine.
    with serve(sqlite_url, failed_keys_per_minute=1, key_cache_seconds=0.0) as api:
        assert api.client.get("/v1/experiments").status_code == 200
        assert [status_with(api, f"bnl_{number}") for number in range(2)] == [401, 429]
        # Nothing is guessed without a key, nor with one that was good a moment ago.
        assert httpx.get(f"{api.url}/v1/experiments", timeout=300).status_code == 401
        assert api.client.get("/v1/experiments").status_code == 200
        refused = httpx.get(f"{api.url}/v1/experiments", headers={"Authorization": "Bearer bnl_x"}, timeout=300)
        assert refused.json()["code"] == "too_many_requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == '"failed_keys";q=1;w=60'


def test_one_owners_full_queue_is_no_other_owners(database_url: str, serve: Callable[..., Any]) -> None:
    with serve(database_url, queued_per_owner=2) as api, holder(api) as client:
        made = [client.post("/v1/experiments", json={}) for _ in range(3)]
        assert [answer.status_code for answer in made] == [202, 202, 429]
        full = made[-1]
        assert (full.json()["code"], full.json()["what"], full.json()["limit"]) == ("quota_exceeded", "queued_jobs", 2)
        assert int(full.headers["retry-after"]) >= 1
        assert api.client.post("/v1/experiments", json={}).status_code == 202
        client.post(f"/v1/experiments/{made[0].json()['id']}/cancel")
        assert client.post("/v1/experiments", json={}).status_code == 202


def test_who_has_stored_too_much_submits_nothing_until_it_is_deleted(
    database_url: str, serve: Callable[..., Any], by_hand: Callable[..., Any]
) -> None:
    with serve(database_url, bytes_per_owner=5) as api, holder(api) as client:
        client.post("/v1/experiments", json={})
        by_hand(api.database).checkpoint("last", 1, b"weights")
        full = client.post("/v1/experiments", json={})
        assert (full.status_code, full.json()["code"], full.json()["what"]) == (403, "quota_exceeded", "stored_bytes")
        assert "retry-after" not in full.headers
        assert api.client.post("/v1/experiments", json={}).status_code == 202


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_of_every_kind_carry_the_limit(shared_api: Any, method: str) -> None:
    for path in ("/v1/experiments", "/v1/experiments/exp_1", "/v1/networks"):
        assert shared_api.client.request(method, path).headers["ratelimit-policy"] == '"owner";q=1000;w=5'
