"""Imports and evaluations are asked, and tell what happened, as experiments do and are."""

from typing import Any

import pytest

from store import logs, work
from tests.api.datasets import uploaded
from tests.api.holders import holder
from tests.api.test_http_evaluations import ask, trained


@pytest.fixture(params=["datasets", "evaluations"])
def base(request: pytest.FixtureRequest, sqlite_api: Any, by_hand: Any) -> str:
    """The address of a job that is queued."""
    if request.param == "datasets":
        return f"/v1/datasets/{uploaded(sqlite_api.client, b'source')['id']}"
    experiment, _ = trained(sqlite_api, by_hand, "last")
    return f"/v1/evaluations/{ask(sqlite_api, experiment).json()['id']}"


def test_it_rests_goes_on_is_ended_and_begins_again(sqlite_api: Any, by_hand: Any, base: str) -> None:
    def asked(action: str) -> tuple[int, str | None, str | None]:
        answer = sqlite_api.client.post(f"{base}/{action}")
        return answer.status_code, answer.json().get("state"), answer.json().get("desired")

    assert asked("pause") == (200, "paused", None)
    assert asked("resume") == (200, "queued", None)
    hand = by_hand(sqlite_api.database)
    assert base.endswith(hand.lease.job_id)
    assert asked("pause") == (202, "running", "pause")
    assert asked("resume") == (200, "running", None)
    assert asked("cancel") == (202, "running", "cancel")
    assert asked("kill") == (202, "running", "kill")
    hand.finish(work.Cancelled())
    assert asked("pause")[0] == 409
    assert asked("resume")[0] == 409
    assert asked("retry") == (200, "queued", None)
    assert asked("retry")[0] == 409
    by_hand(sqlite_api.database).finish(work.Failed("trainer_error", "Broke."))
    attempts = sqlite_api.client.get(f"{base}/attempts").json()["data"]
    assert [(one["number"], one["ending"], one["code"]) for one in attempts] == [
        (1, "cancelled", None),
        (2, "failed", "trainer_error"),
    ]
    kinds = [line["kind"] for line in sqlite_api.client.get(f"{base}/events").json()["data"]]
    assert kinds[:4] == ["submitted", "paused", "resumed", "claimed"]
    links = sqlite_api.client.get(base).json()["links"]
    for name in ("attempts", "logs", "events"):
        assert sqlite_api.client.get(links[name]).status_code == 200
    for name in ("cancel", "kill"):
        assert sqlite_api.client.post(links[name]).status_code == 200


def test_what_is_printed_is_read_by_its_owner(sqlite_api: Any, by_hand: Any, base: str) -> None:
    hand = by_hand(sqlite_api.database)
    with sqlite_api.database.write() as session:
        logs.append(session, hand.lease, 0, b"one\ntwo\n")
    answer = sqlite_api.client.get(f"{base}/logs")
    assert (answer.text, answer.headers["X-Attempt"]) == ("one\ntwo\n", "1")
    assert answer.links["next"]["url"] == f"{base}/logs?attempt=1&after=8"
    hand.finish(work.Cancelled())
    last = sqlite_api.client.get(answer.links["next"]["url"])
    assert (last.text, "next" in last.links) == ("", False)
    with holder(sqlite_api) as stranger:
        for path in ("logs", "attempts", "events"):
            assert stranger.get(f"{base}/{path}").status_code == 404
        for action in ("cancel", "kill", "pause", "resume", "retry"):
            assert stranger.post(f"{base}/{action}").status_code == 404
