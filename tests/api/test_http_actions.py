"""Cancelling and deleting: what is done at once, what is asked for, what is refused."""

from collections.abc import Callable
from typing import Any

from store import work
from store.jobs import leases


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
    assert (refused.json()["state"], refused.json()["allowed_actions"]) == ("queued", ["cancel"])
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
