"""Cancelling and deleting: what is done at once, what is asked for, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from bncore.events import MetricsBlock
from store import work
from store.columns import core
from store.jobs import leases
from store.tables import Job
from tests.api.holders import holder


def test_cancelling_a_queued_experiment_ends_it_at_once(api: Any) -> None:
    made = api.submit()
    answer = api.client.post(f"/v1/experiments/{made}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["is_terminal"]) == (200, "cancelled", True)
    again = api.client.post(f"/v1/experiments/{made}/cancel")
    assert (again.status_code, again.json()) == (200, answer.json())


def test_cancelling_a_running_experiment_is_a_wish_its_worker_hears(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    answer = api.client.post(f"/v1/experiments/{made}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["desired"]) == (202, "running", "cancel")
    assert api.client.post(f"/v1/experiments/{made}/cancel").status_code == 202
    assert hand.append() == leases.Stop("cancel")
    hand.finish(work.Cancelled())
    after = api.client.post(f"/v1/experiments/{made}/cancel")
    assert (after.status_code, after.json()["state"]) == (200, "cancelled")


def test_a_run_that_ends_before_it_hears_of_the_wish_has_succeeded(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    api.client.post(f"/v1/experiments/{made}/cancel")
    hand.finish()
    assert api.client.get(f"/v1/experiments/{made}").json()["state"] == "succeeded"


def test_only_an_ended_experiment_can_be_deleted(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    refused = api.client.delete(f"/v1/experiments/{made}")
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert (refused.json()["state"], refused.json()["allowed_actions"]) == ("queued", ["cancel", "pause"])
    by_hand(api.database)
    assert api.client.delete(f"/v1/experiments/{made}").json()["state"] == "running"


def test_a_deleted_experiment_is_gone_for_every_address(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    checkpoint = hand.checkpoint("last", 1, b"weights", b"state")
    hand.finish()
    deleted = api.client.delete(f"/v1/experiments/{made}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    base = f"/v1/experiments/{made}"
    assert api.client.delete(base).status_code == 404
    parts = ["", "/results", "/results?wait=1", "/metrics", "/events", "/checkpoints", f"/checkpoints/{checkpoint}"]
    for part in [*parts, f"/checkpoints/{checkpoint}/content"]:
        assert api.client.get(base + part).status_code == 404, part
    assert api.client.post(f"{base}/cancel").status_code == 404
    assert api.client.get("/v1/experiments").json()["data"] == []


def test_a_failed_experiment_says_why(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    by_hand(api.database).finish(work.Failed("trainer_error", "boom \x00 \ud800"))
    for part in ("", "/results"):
        shown = api.client.get(f"/v1/experiments/{made}{part}").json()
        assert shown["state"] == "failed"
        assert shown["failure"]["code"] == "trainer_error"
        assert shown["failure"]["message"].startswith("boom ")


def act(api: Any, made: str, action: str, **headers: str) -> tuple[int, str, str | None]:
    answer = api.client.post(f"/v1/experiments/{made}/{action}", headers=headers)
    return answer.status_code, answer.json()["state"], answer.json().get("desired")


def kinds(api: Any, made: str) -> list[str]:
    return [line["kind"] for line in api.client.get(f"/v1/experiments/{made}/events").json()["data"]]


def test_a_queued_experiment_rests_and_goes_on_at_once(api: Any) -> None:
    made = api.submit()
    for action, state in (("pause", "paused"), ("pause", "paused"), ("resume", "queued"), ("resume", "queued")):
        assert act(api, made, action) == (200, state, None)
    assert kinds(api, made) == ["submitted", "paused", "resumed"]


def test_a_running_experiment_is_asked_to_rest_and_the_wish_can_be_taken_back(
    api: Any, by_hand: Callable[..., Any]
) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    assert act(api, made, "pause") == (202, "running", "pause")
    assert act(api, made, "resume") == (200, "running", None)
    assert hand.append() == leases.Go()
    assert act(api, made, "pause") == (202, "running", "pause")
    hand.finish(work.Paused())
    assert act(api, made, "pause") == (200, "paused", None)
    assert act(api, made, "resume") == (200, "queued", None)


def test_killing_is_asked_even_of_what_is_being_cancelled(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    assert act(api, made, "cancel") == (202, "running", "cancel")
    assert act(api, made, "kill") == (202, "running", "kill")
    assert act(api, made, "cancel") == (202, "running", "kill")
    assert hand.append() == leases.Stop("kill")
    hand.finish(work.Cancelled())
    assert act(api, made, "kill") == (200, "cancelled", None)


def test_a_failed_experiment_is_tried_again_as_the_same_one(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    by_hand(api.database).finish(work.Failed("trainer_error", "boom"))
    assert act(api, made, "retry") == (200, "queued", None)
    shown = api.client.get(f"/v1/experiments/{made}").json()
    assert (shown["failure"], shown["finished_at"], shown["attempt"]) == (None, None, 1)
    assert by_hand(api.database).lease.attempt == 2
    assert kinds(api, made) == ["submitted", "claimed", "failed", "retried", "claimed"]


REFUSED = [
    ("pause", "succeeded", ["delete"]), ("resume", "succeeded", ["delete"]), ("retry", "succeeded", ["delete"]),
    ("retry", "queued", ["cancel", "pause"]), ("resume", "cancelled", ["delete", "retry"]),
]  # fmt: skip


@pytest.mark.parametrize(("action", "state", "allowed"), REFUSED)
def test_what_a_state_does_not_allow_is_refused_with_what_it_does(
    sqlite_api: Any, by_hand: Callable[..., Any], action: str, state: str, allowed: list[str]
) -> None:
    made = sqlite_api.submit()
    if state == "succeeded":
        by_hand(sqlite_api.database).finish()
    if state == "cancelled":
        act(sqlite_api, made, "cancel")
    answer = sqlite_api.client.post(f"/v1/experiments/{made}/{action}")
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
    assert (answer.json()["state"], answer.json()["allowed_actions"]) == (state, allowed)


@pytest.mark.parametrize("action", ["cancel", "kill", "pause", "resume", "retry"])
def test_an_action_on_what_has_changed_meanwhile_is_not_done(api: Any, action: str) -> None:
    made = api.submit()
    old = api.client.get(f"/v1/experiments/{made}").headers["etag"]
    api.client.patch(f"/v1/experiments/{made}", json={"name": "other"})
    before = api.client.get(f"/v1/experiments/{made}")
    answer = api.client.post(f"/v1/experiments/{made}/{action}", headers={"If-Match": old})
    assert (answer.status_code, answer.headers["etag"]) == (412, before.headers["etag"])
    # Whom it waits for is looked up for each answer, and on a busy machine may not be known in time.
    is_now, was = (one.json() for one in (api.client.get(f"/v1/experiments/{made}"), before))
    assert is_now | {"waiting_for": None} == was | {"waiting_for": None}


def test_a_full_queue_takes_nothing_back(database_url: str, serve: Callable[..., Any]) -> None:
    with serve(database_url, queued_per_owner=1) as api, holder(api) as client:
        first, second = api.submit(), client.post("/v1/experiments", json={}).json()["id"]
        client.post(f"/v1/experiments/{second}/pause")
        third = client.post("/v1/experiments", json={}).json()["id"]
        for action in ("resume", "retry"):
            assert client.post(f"/v1/experiments/{second}/{action}").json()["code"] == "quota_exceeded"
            assert api.client.post(f"/v1/experiments/{second}/{action}").status_code == 429
            client.post(f"/v1/experiments/{second}/cancel")
        client.post(f"/v1/experiments/{third}/cancel")
        assert act(api, second, "retry")[:2] == (200, "queued")
        assert act(api, first, "pause")[0] == act(api, first, "resume")[0] == 200


def test_who_asked_is_in_the_log_of_the_experiment(api: Any) -> None:
    with holder(api) as client:
        made = client.post("/v1/experiments", json={}).json()["id"]
        client.post(f"/v1/experiments/{made}/pause")
        api.client.post(f"/v1/experiments/{made}/cancel")
        lines = client.get(f"/v1/experiments/{made}/events").json()["data"]
        own = client.get("/v1/keys").json()["data"][0]["id"]
    assert [line["data"]["key_id"] for line in lines][:2] == [own, own]
    assert lines[2]["data"]["key_id"] not in (own, None)
    assert client.key.secret not in str(lines)


def test_every_link_of_an_experiment_leads_somewhere(sqlite_api: Any) -> None:
    made = sqlite_api.submit()
    links = sqlite_api.client.get(f"/v1/experiments/{made}").json()["links"]
    asked = {"cancel", "kill", "pause", "resume", "retry", "clone"}
    for name, address in links.items():
        method = "POST" if name in asked else "GET"
        answer = sqlite_api.client.request(method, address, json={} if name == "clone" else None)
        assert answer.status_code in (200, 202, 409), name


def test_how_far_it_is_to_the_front_and_to_the_end(api: Any, by_hand: Callable[..., Any]) -> None:
    first, second = api.submit(train={"steps": 100}), api.submit()
    assert api.client.get(f"/v1/experiments/{second}").json()["queue"] == {"position": 2, "ahead_capped": False}
    hand = by_hand(api.database)
    hand.start()
    shown = api.client.get(f"/v1/experiments/{first}").json()
    assert (shown["queue"], shown["eta_seconds"]) == (None, None)
    assert shown["claimed_at"] <= shown["started_at"]
    hand.append(MetricsBlock(first_step=1, count=5, values={"train/loss": [1.0] * 5}))
    assert api.client.get(f"/v1/experiments/{first}").json()["eta_seconds"] > 0
    # However long ago an earlier attempt began.
    with api.database.write() as session:
        session.execute(update(core(Job)).values(started_at=core(Job).c.started_at - 86_400))
    assert api.client.get(f"/v1/experiments/{first}").json()["eta_seconds"] < 95 * 60
    assert api.client.get(f"/v1/experiments/{second}").json()["queue"]["position"] == 1
    for at in range(5):
        assert api.submit(name=f"behind {at}")
    hand.append(MetricsBlock(first_step=6, count=1, values={"test/accuracy": [0.75]}))
    listed = api.client.get("/v1/experiments").json()["data"]
    assert [entry["queue"] and entry["queue"]["position"] for entry in listed] == [6, 5, 4, 3, 2, 1, None]
    assert (listed[-1]["id"], listed[-1]["test_accuracy"], listed[-1]["eta_seconds"] > 0) == (first, 0.75, True)
    results = api.client.get(f"/v1/experiments/{first}/results").json()
    assert (results["queue"], results["eta_seconds"] > 0) == (None, True)
    assert api.client.get(f"/v1/experiments/{second}/results").json()["queue"]["position"] == 1
