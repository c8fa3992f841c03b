"""The attempts at an experiment, as its log tells them."""

from collections.abc import Callable
from typing import Any

from store import work
from tests.api.holders import holder


def attempts(api: Any, made: str, query: str = "") -> Any:
    return api.client.get(f"/v1/experiments/{made}/attempts?{query}").json()


def test_each_attempt_says_who_when_from_where_and_how_it_ended(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(max_restarts=1)
    assert attempts(api, made) == {"data": [], "has_more": False, "next_cursor": None}
    first = by_hand(api.database)
    first.start()
    first.finish(work.Released())
    second = by_hand(api.database)
    second.finish(work.Failed("worker_lost", "gone"))
    api.client.post(f"/v1/experiments/{made}/pause")
    api.client.post(f"/v1/experiments/{made}/resume")
    third = by_hand(api.database)
    third.start()
    shown = attempts(api, made)["data"]
    assert [entry["number"] for entry in shown] == [1, 2, 3]
    assert [entry["ending"] for entry in shown] == ["released", "restarted", None]
    assert [entry["code"] for entry in shown] == [None, "worker_lost", None]
    assert [entry["restored_step"] for entry in shown] == [0, None, 0]
    assert shown[0]["claimed_at"] <= shown[0]["started_at"] <= shown[0]["ended_at"]
    assert (shown[2]["ended_at"], shown[2]["worker_id"]) == (None, "prc_hand")
    assert (shown[2]["device"], shown[2]["device_model"], shown[2]["torch_version"]) == ("cpu", "some model", "2.13.0")
    third.finish()
    assert attempts(api, made)["data"][2]["ending"] == "succeeded"


def test_attempts_come_in_pages_to_their_owner(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    made = sqlite_api.submit()
    for _ in range(3):
        by_hand(sqlite_api.database).finish(work.Released())
    first = attempts(sqlite_api, made, "limit=2")
    rest = attempts(sqlite_api, made, f"after={first['next_cursor']}")
    assert [entry["number"] for entry in first["data"] + rest["data"]] == [1, 2, 3]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    with holder(sqlite_api) as stranger:
        assert stranger.get(f"/v1/experiments/{made}/attempts").status_code == 404


def test_of_many_checkpoints_a_summary_shows_the_newest_and_the_best(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(checkpoint={"keep_periodic": True})
    hand = by_hand(api.database)
    best = hand.checkpoint("best", 1, b"w")
    for step in range(1, 24):
        hand.checkpoint("last", step, b"w", b"s")
    base = f"/v1/experiments/{made}"
    shown = api.client.get(f"{base}/results").json()["checkpoints"]
    assert [entry["step"] for entry in shown] == [*range(23, 3, -1), 1]
    assert (shown[0]["kind"], shown[-1]["id"]) == ("last", best)
    pages, cursor = [], ""
    while cursor is not None:
        page = api.client.get(f"{base}/checkpoints?limit=10{cursor and f'&cursor={cursor}'}").json()
        pages.append(page["data"])
        cursor = page["next_cursor"]
    listed = [entry for page in pages for entry in page]
    assert [len(page) for page in pages] == [10, 10, 4]
    assert [(entry["step"], entry["kind"]) for entry in listed[-2:]] == [(1, "best"), (1, "periodic")]
    assert len({entry["id"] for entry in listed}) == 24
    other = api.submit()
    cursor = api.client.get(f"{base}/checkpoints?limit=1").json()["next_cursor"]
    answer = api.client.get(f"/v1/experiments/{other}/checkpoints?cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


def test_experiments_are_found_by_when_they_were_made(api: Any) -> None:
    made = [api.submit(name="x", tags={"a": "b"}) for _ in range(3)]
    second = api.client.get(f"/v1/experiments/{made[1]}").json()["created_at"]
    for more in ({}, {"name": "x"}, {"tag": "a"}, {"state": "queued"}):
        early = api.client.get("/v1/experiments", params={"created_before": second, **more}).json()["data"]
        late = api.client.get("/v1/experiments", params={"created_from": second, **more}).json()["data"]
        # Shown to the microsecond, stored a little finer.
        assert made[0] in [entry["id"] for entry in early]
        assert made[2] not in [entry["id"] for entry in early]
        assert made[2] in [entry["id"] for entry in late]
        assert made[0] not in [entry["id"] for entry in late]
        assert len(early) + len(late) == 3
    for wrong in ("yesterday", "2026-01-01T00:00:00", "", "0.5", "1700000000"):
        assert api.client.get("/v1/experiments", params={"created_from": wrong}).status_code == 422


def test_failure_codes_are_described_from_the_table_that_decides(shared_api: Any) -> None:
    from store.jobs.failures import CODES

    described = shared_api.client.get("/openapi.json").json()["components"]["schemas"]["Failure"]["properties"]["code"]
    assert all(f"`{code}`" in described["description"] for code in CODES)
