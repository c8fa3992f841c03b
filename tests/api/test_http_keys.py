"""Keys over HTTP: made, shown, replaced and ended by whoever holds one, and never worth more than their maker's."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from store import keys
from store.database import Database
from tests.api.holders import holder, status_with
from tests.api.trouble import api_process, until


def make(client: Any, **wanted: Any) -> Any:
    return client.post("/v1/keys", json={"name": "made", "scopes": ["read"], **wanted})


def test_a_key_is_made_shown_and_ended(api: Any) -> None:
    with holder(api) as client:
        answer = make(client, scopes=["read", "submit"], expires_in_seconds=3600)
        made = answer.json()
        secret = made.pop("secret")
        assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
        assert answer.headers["location"] == f"/v1/keys/{made['id']}"
        assert secret.startswith(made["prefix"])
        assert status_with(api, secret) == 200
        shown = client.get(answer.headers["location"])
        assert shown.json() == made
        assert secret not in shown.text
        for _ in range(2):
            assert client.delete(f"/v1/keys/{made['id']}").status_code == 204
        # At once where it was revoked, however long keys are kept.
        assert status_with(api, secret) == 401
        listed = client.get("/v1/keys").json()["data"]
        assert [entry["id"] for entry in listed] == [client.key.id, made["id"]]
        assert listed[1]["revoked_at"]


def test_keys_are_listed_in_pages_of_their_owner(api: Any) -> None:
    with holder(api) as client:
        for _ in range(2):
            make(client)
        first = client.get("/v1/keys?limit=2").json()
        rest = client.get(f"/v1/keys?limit=2&cursor={first['next_cursor']}").json()
        assert [len(page["data"]) for page in (first, rest)] == [2, 1]
        assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
        everybodys = api.client.get(f"/v1/keys?cursor={first['next_cursor']}")
        assert (everybodys.status_code, everybodys.json()["code"]) == (422, "cursor_invalid")
    ids = {entry["id"] for entry in first["data"] + rest["data"]}
    assert {entry["id"] for entry in api.client.get("/v1/keys?owner=other").json()["data"]} == ids
    assert {entry["id"] for entry in api.client.get("/v1/keys").json()["data"]} > ids
    assert api.client.get("/v1/keys?owner=nobody").status_code == 404


def test_keys_of_another_owner_do_not_exist(api: Any) -> None:
    with holder(api, "one") as one, holder(api, "two") as two:
        address = f"/v1/keys/{two.key.id}"
        answers = [one.get(address), one.delete(address), one.post(f"{address}/rotate"), one.get("/v1/keys?owner=two")]
        assert [answer.status_code for answer in answers] == [404] * 4
        assert one.get("/v1/keys?owner=one").status_code == 200
        assert two.get(address).json()["revoked_at"] is None
        assert api.client.delete(address).status_code == 204


def test_a_key_hands_out_no_scope_that_it_lacks(api: Any) -> None:
    with holder(api, "team", "submit") as client, holder(api, "team", "admin") as admin:
        assert make(client, scopes=["read"]).status_code == 201
        refused = make(client, scopes=["read", "admin"])
        assert (refused.status_code, refused.json()["code"]) == (403, "beyond_grant")
        assert make(client, owner="team").status_code == 403
        # Nor does it get or end one that is worth more, though its owner is the same.
        assert client.post(f"/v1/keys/{admin.key.id}/rotate").status_code == 403
        assert client.delete(f"/v1/keys/{admin.key.id}").status_code == 403
        assert admin.get("/v1/keys").status_code == 200
    with holder(api, "team", "read") as reader:
        assert reader.get("/v1/keys").status_code == 200
        assert make(reader).json()["code"] == "forbidden"


def test_no_key_outlives_the_one_that_made_it(api: Any) -> None:
    with holder(api, "team", "submit", expires_in_seconds=600) as client, holder(api, "team") as lasting:
        own = client.get(f"/v1/keys/{client.key.id}").json()["expires_at"]
        assert make(client).json()["expires_at"] == own
        assert make(client, expires_in_seconds=9999).json()["expires_at"] == own
        assert make(client, expires_in_seconds=1).json()["expires_at"] < own
        assert client.post(f"/v1/keys/{lasting.key.id}/rotate").json()["expires_at"] == own


def test_an_administrator_makes_keys_for_owners_new_and_old(api: Any) -> None:
    first, second = make(api.client, owner="new team").json(), make(api.client, owner="new team").json()
    third = make(api.client, owner=first["owner"]).json()
    assert first["owner"] == second["owner"] == third["owner"] != "own_default"
    assert make(api.client, owner="own_" + "0" * 32).status_code == 404


def test_a_key_is_replaced_and_the_old_one_ends_after_the_overlap(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url) as api, holder(api, "team", "submit", expires_in_seconds=3600) as client:
        address = f"/v1/keys/{client.key.id}"
        answer = client.post(f"{address}/rotate", json={"overlap_seconds": 600})
        new = answer.json()
        assert answer.status_code == 201
        assert client.get(address).json()["expires_at"] < new["expires_at"]
        assert (new["name"], new["scopes"]) == ("of team", ["submit"])
        assert status_with(api, client.key.secret) == status_with(api, new["secret"]) == 200
        assert client.post(f"{address}/rotate").status_code == 201
        assert status_with(api, client.key.secret) == 401
        again = api.client.post(f"{address}/rotate")
        assert (again.status_code, again.json()["code"]) == (409, "key_ended")


def test_a_key_expires_when_it_says_however_long_keys_are_kept(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, key_cache_seconds=3600.0) as api:
        # A life long enough for the first look at it: one second, unless this machine is busy.
        for seconds in (1, 4, 16, 64):
            secret = make(api.client, expires_in_seconds=seconds).json()["secret"]
            if status_with(api, secret) == 200:
                break
        else:
            raise AssertionError("it was never good")
        until(lambda: status_with(api, secret) == 401)


BAD = {
    "no name": ({"scopes": ["read"]}, "/name"),
    "no scope": ({"name": "x", "scopes": []}, "/scopes"),
    "an unknown scope": ({"name": "x", "scopes": ["root"]}, "/scopes/0"),
    "a life of no time": ({"name": "x", "scopes": ["read"], "expires_in_seconds": 0}, "/expires_in_seconds"),
    "a control character": ({"name": "a\x00b", "scopes": ["read"]}, "/name"),
    "a misspelt field": ({"name": "x", "scopes": ["read"], "ower": "y"}, "/ower"),
    "a list": ([], ""),
}


@pytest.mark.parametrize(("wanted", "pointer"), BAD.values(), ids=BAD)
def test_a_bad_wish_for_a_key_is_refused_by_its_field(shared_api: Any, wanted: Any, pointer: str) -> None:
    answer = shared_api.client.post("/v1/keys", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_lines_of_the_log_name_the_key_and_never_its_secret(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        key = keys.create(session, "test")
    database.dispose()
    with api_process(sqlite_url) as api:
        headers = {"Authorization": f"Bearer {key.secret}"}
        with httpx.Client(base_url=api.url, headers=headers, timeout=300) as client:
            client.post("/v1/experiments", json={})
            client.get("/v1/experiments", headers={"Authorization": "Bearer bnl_wrong"})
            made = make(client).json()
        api.running.terminate()
        lines = [line for line in api.logged() if "request_id" in line]
    named = {line["event"]: (line.get("key_id"), line.get("owner")) for line in lines if line.get("status") != 401}
    assert set(named) == {"request", "experiment_submitted", "key_created"}
    assert set(named.values()) == {(key.id, "own_default")}
    (refused,) = [line for line in lines if line.get("status") == 401]
    assert "key_id" not in refused
    assert [line["made"] for line in lines if line["event"] == "key_created"] == [made["id"]]
    assert not any(secret in str(lines) for secret in (key.secret, made["secret"], "bnl_wrong"))
