"""Owners: each sees and changes what is theirs, and everything else is not there."""

from collections.abc import Callable
from typing import Any

from tests.api.holders import holder


def test_an_owner_sees_what_they_use_and_may_use(api: Any, by_hand: Callable[..., Any]) -> None:
    with holder(api, "team") as client:
        for _ in range(2):
            client.post("/v1/experiments", json={})
        by_hand(api.database).checkpoint("last", 1, b"weights", b"state")
        shown = client.get("/v1/owners/me").json()
        assert (shown["name"], shown["queued_jobs"], shown["running_jobs"]) == ("team", 1, 1)
        assert shown["stored_bytes"] == len(b"weights" + b"state")
        assert shown["limits"]["queued_jobs"] == 20_000
        assert client.get("/v1/owners").json()["code"] == "forbidden"
    listed = api.client.get("/v1/owners?limit=1").json()
    rest = api.client.get(f"/v1/owners?cursor={listed['next_cursor']}").json()
    assert [entry["name"] for entry in listed["data"] + rest["data"]] == ["default", "team"]
    assert rest["data"] == [shown]
    assert api.client.get("/v1/owners/me").json()["queued_jobs"] == 0


PARTS = [
    ("GET", ""), ("GET", "/results"), ("GET", "/results?wait=5"), ("GET", "/metrics"), ("GET", "/events"),
    ("GET", "/checkpoints"), ("POST", "/cancel"), ("DELETE", ""),
]  # fmt: skip


def test_what_another_owner_has_is_not_there(api: Any, by_hand: Callable[..., Any]) -> None:
    with holder(api, "one") as one, holder(api, "two") as two, holder(api, "two", "read") as reader:
        made = one.post("/v1/experiments", json={"name": "x", "tags": {"a": "b"}}).json()["id"]
        checkpoint = by_hand(api.database).checkpoint("last", 1, b"weights")
        base = f"/v1/experiments/{made}"
        parts = [*PARTS, ("GET", f"/checkpoints/{checkpoint}"), ("GET", f"/checkpoints/{checkpoint}/content")]
        for method, part in parts:
            answer = two.request(method, base + part)
            assert (answer.status_code, answer.json()["code"]) == (404, "experiment_not_found"), part
        for query in ("", "name=x", "tag=a:b", "state=running"):
            assert two.get(f"/v1/experiments?{query}").json()["data"] == []
            assert [entry["id"] for entry in api.client.get(f"/v1/experiments?{query}").json()["data"]] == [made]
        assert one.get(base).json()["state"] == "running"
        assert reader.post("/v1/experiments", json={}).json()["code"] == "forbidden"
        assert reader.post("/v1/experiments:validate", json={}).status_code == 200
