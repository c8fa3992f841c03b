"""Listings: newest first, filtered, in pages that do not shift."""

from collections.abc import Callable
from typing import Any

import pytest

from store import work
from tests.api.holders import holder


def ids(api: Any, query: str = "") -> list[str]:
    answer = api.client.get(f"/v1/experiments?{query}")
    assert answer.status_code == 200, answer.text
    return [shown["id"] for shown in answer.json()["data"]]


def all_pages(api: Any, query: str, between: Callable[[], Any] = lambda: None) -> list[list[str]]:
    pages, cursor = [], ""
    while True:
        page = api.client.get(f"/v1/experiments?{query}{cursor}").json()
        pages.append([shown["id"] for shown in page["data"]])
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            return pages
        cursor = f"&cursor={page['next_cursor']}"
        between()


def test_a_listing_is_newest_first_and_complete(api: Any) -> None:
    made = [api.submit(name=str(number)) for number in range(7)]
    assert all_pages(api, "limit=3") == [made[:3:-1], made[3:0:-1], made[0:1]]
    assert all_pages(api, "limit=7") == [made[::-1]]


def test_pages_do_not_shift_when_experiments_are_added(api: Any) -> None:
    made = [api.submit() for _ in range(6)]
    pages = all_pages(api, "limit=2", between=api.submit)
    assert pages == [[made[5], made[4]], [made[3], made[2]], [made[1], made[0]]]


def test_a_listing_is_filtered_by_state_tag_and_name(api: Any, by_hand: Callable[..., Any]) -> None:
    done = api.submit(name="a", tags={"paper": "1", "arm": "none"})
    by_hand(api.database).finish()
    running = api.submit(name="a", tags={"paper": "2"})
    by_hand(api.database)
    queued = api.submit(name="b", tags={"paper": "2", "arm": "x:y"})
    assert ids(api) == [queued, running, done]
    assert ids(api, "state=queued") == [queued]
    assert ids(api, "state=queued&state=succeeded") == [queued, done]
    assert ids(api, "tag=paper:2") == [queued, running]
    assert ids(api, "tag=arm") == [queued, done]
    assert ids(api, "tag=arm:x:y&tag=paper:2") == [queued]
    assert ids(api, "name=a&state=running") == [running]
    assert ids(api, "tag=paper:3") == []
    assert ids(api, "tag=paper:1&tag=paper:2") == []
    assert ids(api, "tag=paper:2&tag=paper:1") == []
    assert ids(api, "tag=paper:2&tag=paper&tag=paper:2") == [queued, running]


def test_twenty_are_shown_unless_asked_otherwise(sqlite_api: Any) -> None:
    for _ in range(21):
        sqlite_api.submit()
    assert len(ids(sqlite_api)) == 20
    assert len(ids(sqlite_api, "limit=100")) == 21


@pytest.mark.parametrize("other", ["state=queued", "tag=a", "name=x"])
def test_a_cursor_of_other_filters_is_refused(sqlite_api: Any, other: str) -> None:
    for _ in range(2):
        sqlite_api.submit(name="x", tags={"a": "1"})
    cursor = sqlite_api.client.get("/v1/experiments?limit=1").json()["next_cursor"]
    answer = sqlite_api.client.get(f"/v1/experiments?limit=1&cursor={cursor}&{other}")
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")
    assert sqlite_api.client.get(f"/v1/experiments?limit=5&cursor={cursor}").status_code == 200
    assert sqlite_api.client.get(f"/v1/experiments?tag=a:1&tag=a:2&cursor={cursor}").status_code == 422


def test_the_log_is_read_in_pages_and_followed(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit()
    hand = by_hand(api.database)
    hand.start()
    hand.finish()
    address = f"/v1/experiments/{made}/events"
    whole = api.client.get(address).json()
    assert [line["kind"] for line in whole["data"]][:2] == ["submitted", "claimed"]
    assert whole["data"][-1]["kind"] == "succeeded"
    assert [line["number"] for line in whole["data"]] == list(range(1, len(whole["data"]) + 1))
    assert (whole["has_more"], whole["next_cursor"]) == (False, None)
    first = api.client.get(f"{address}?limit=2").json()
    assert (first["has_more"], first["next_cursor"]) == (True, 2)
    rest = api.client.get(f"{address}?after={first['next_cursor']}").json()
    assert first["data"] + rest["data"] == whole["data"]


def test_tags_and_names_of_any_script_come_back_and_are_found(api: Any) -> None:
    made = api.submit(name="Größe 尺寸 🧪", tags={"ключ": "значение"})
    found = api.client.get("/v1/experiments", params={"name": "Größe 尺寸 🧪", "tag": "ключ:значение"}).json()
    assert [shown["id"] for shown in found["data"]] == [made]


def test_a_404_says_what_was_looked_for_and_what_of_its_owner_is_near(api: Any) -> None:
    made, other = api.submit(name="digits-bn"), "exp_" + "0" * 32
    slip = made[:-1] + ("0" if made[-1] != "0" else "1")
    near = [{"id": made, "name": "digits-bn"}]
    for path, detail in (
        (f"{slip}", f"There is no experiment {slip}; near is {made} (digits-bn)."),
        (f"{slip}/results", f"There is no experiment {slip}; near is {made} (digits-bn)."),
        (made[:16], f"The id of an experiment is exp_ and 32 hexadecimal digits; near is {made} (digits-bn)."),
        ("digits-bn", f"The id of an experiment is exp_ and 32 hexadecimal digits; near is {made} (digits-bn)."),
    ):
        answer = api.client.get(f"/v1/experiments/{path}")
        assert (answer.status_code, answer.json()["detail"], answer.json()["near"]) == (404, detail, near)
    for path, form in (
        ("figures/curves.gif", "figure is of the form ^[a-z_]{1,64}[.](json|html|svg|png)$"),
        ("figures/curves", "figure is of the form ^[a-z_]{1,64}[.](json|html|svg|png)$"),
        ("checkpoints/best", "checkpoint is of the form ^ckp_[0-9a-f]{32}$"),
    ):
        # The experiment is right, and nothing is said of its id.
        answer = api.client.get(f"/v1/experiments/{made}/{path}")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"There is nothing at this address; {form}.")
    assert api.client.get(f"/v1/experiments/{other}").json()["detail"] == f"There is no experiment {other}."
    with holder(api, "other") as client:
        for path in (made, slip, made[:16], "digits-bn"):
            assert "near" not in client.get(f"/v1/experiments/{path}").json()


def test_a_listing_is_sorted_beside_its_filters_in_pages(api: Any, by_hand: Callable[..., Any]) -> None:
    done = {}
    for value in (0.5, 0.25, 0.75):
        done[value] = api.submit(name=f"run {value}", tags={"q": "a" if value < 0.6 else "b"})
        worker = by_hand(api.database)
        worker.start()
        worker.metrics(1, test__accuracy=[value])
        worker.finish(work.Succeeded("budget", {"test_accuracy": value}))
    queued = [api.submit(name="z", tags={"q": "a"}) for _ in range(2)]
    assert all_pages(api, "sort=-accuracy&limit=2") == [
        [done[0.75], done[0.5]], [done[0.25], queued[1]], [queued[0]],
    ]  # fmt: skip
    assert ids(api, "sort=accuracy&tag=q:a") == [done[0.25], done[0.5], *queued[::-1]]
    assert ids(api, "sort=-name&state=succeeded") == [done[0.75], done[0.5], done[0.25]]
    assert ids(api, "sort=place&state=queued") == queued
    assert ids(api, "sort=age") == ids(api)
    assert ids(api, "sort=submitted") == ids(api)[::-1]
    shown = api.client.get("/v1/experiments?sort=accuracy").json()["data"]
    assert [one["test_accuracy"] for one in shown] == [0.25, 0.5, 0.75, None, None]


@pytest.mark.parametrize(
    ("sort", "said"),
    [
        ("acuracy", "did you mean accuracy? There are accuracy, stop, submitted, age, ended, state, progress, left,"),
        ("-Nam", "did you mean -name?"),
        ("beauty", "Unknown sort; there are accuracy,"),
        ("", "Unknown sort; there are"),
        ("--name", "did you mean -name?"),
    ],
)
def test_an_unknown_sort_is_refused_with_what_there_is(sqlite_api: Any, sort: str, said: str) -> None:
    answer = sqlite_api.client.get("/v1/experiments", params={"sort": sort})
    (fault,) = answer.json()["errors"]
    assert (answer.status_code, fault["pointer"], fault["code"]) == (422, "/query/sort", "unknown_sort")
    assert said in fault["detail"]
    assert fault["detail"].endswith("and -NAME for downwards")


def test_a_cursor_of_another_sort_is_refused(sqlite_api: Any) -> None:
    for _ in range(2):
        sqlite_api.submit()
    cursor = sqlite_api.client.get("/v1/experiments?sort=-name&limit=1").json()["next_cursor"]
    for query in ("sort=name&", "sort=age&", ""):
        answer = sqlite_api.client.get(f"/v1/experiments?{query}cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")
        assert "belongs to a listing sorted by -name, and this one is" in answer.json()["detail"]
        assert answer.json()["errors"][0]["pointer"] == "/query/cursor"
