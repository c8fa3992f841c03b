"""Results, metrics and entity tags, and waiting for a change."""

import contextlib
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from store import work
from tests.api.trouble import until

LONGEST_SECONDS = 60.0
"""That a request may ask to wait, and longer than anybody here has the patience to: one that waits for it fails."""
PATIENCE_SECONDS = 45.0


def results_of(api: Any, experiment_id: str, wait: float = 0, tag: str | None = None) -> httpx.Response:
    headers = {} if tag is None else {"If-None-Match": tag}
    return api.client.get(
        f"/v1/experiments/{experiment_id}/results", params={"wait": wait}, headers=headers, timeout=PATIENCE_SECONDS
    )


@pytest.fixture
def running(sqlite_api: Any, by_hand: Callable[..., Any]) -> tuple[Any, str, Any]:
    made = sqlite_api.submit(train={"steps": 10})
    hand = by_hand(sqlite_api.database)
    hand.start()
    return sqlite_api, made, hand


def test_results_are_complete_before_anything_ran(api: Any) -> None:
    made = api.submit(name="a")
    answer = results_of(api, made)
    assert answer.status_code == 200
    assert "retry-after" in answer.headers
    shown = answer.json()
    assert (shown["id"], shown["name"], shown["state"], shown["attempt"]) == (made, "a", "queued", 0)
    assert (shown["metrics"], shown["checkpoints"], shown["failure"]) == ({}, [], None)
    assert shown["summary"] == {
        "steps": 0, "seconds": None, "test_accuracy": None, "test_loss": None, "best_test_accuracy": None,
        "steps_to_target": None, "diverged_at": None, "metrics": {}, "best": None,
    }  # fmt: skip


def test_results_show_a_run_as_it_goes_and_as_it_ended(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(train={"steps": 10})
    hand = by_hand(api.database)
    hand.start()
    hand.metrics(1, train__loss=[3.0, 2.0, math.nan])
    hand.metrics(3, test__accuracy=[0.8], test__loss=[0.5])
    hand.metrics(4, test__accuracy=[0.7], test__loss=[math.inf])
    checkpoint = hand.checkpoint("last", 4, b"weights", b"state")
    shown = results_of(api, made).json()
    assert (shown["state"], shown["phase"]) == ("running", "training")
    assert shown["progress"] == {"step": 4, "total_steps": 10, "fraction": 0.4}
    assert shown["metrics"] == {"train/loss": "NaN", "test/accuracy": 0.7, "test/loss": "Infinity"}
    assert shown["summary"]["best_test_accuracy"] == 0.8
    assert shown["summary"]["best"] == {"metric": "test/accuracy", "value": 0.8, "step": None}
    assert shown["summary"]["metrics"] == {"test/accuracy": 0.7, "test/loss": "Infinity"}
    assert (shown["summary"]["test_loss"], shown["summary"]["seconds"]) == ("Infinity", None)
    (stored,) = shown["checkpoints"]
    assert set(stored) == {"id", "kind", "step", "size", "sha256", "metrics"}
    assert (stored["id"], stored["kind"], stored["step"], stored["size"]) == (checkpoint, "last", 4, 7)
    hand.finish()
    ended = results_of(api, made)
    assert "retry-after" not in ended.headers
    assert (ended.json()["state"], ended.json()["stop_reason"]) == ("succeeded", "budget")
    assert ended.json()["summary"]["seconds"] == 1.5


@pytest.mark.parametrize("part", ["", "/results"])
def test_an_entity_tag_changes_exactly_when_something_visible_does(running: tuple[Any, str, Any], part: str) -> None:
    api, made, hand = running
    address = f"/v1/experiments/{made}{part}"
    tag = api.client.get(address).headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        unchanged = api.client.get(address, headers={"If-None-Match": given})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    hand.metrics(1, train__loss=[1.0])
    changed = api.client.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_wait_for_a_terminal_experiment_ends_at_once(running: tuple[Any, str, Any]) -> None:
    api, made, hand = running
    hand.finish()
    answer = results_of(api, made, LONGEST_SECONDS)
    assert answer.json()["is_terminal"]
    assert results_of(api, made, LONGEST_SECONDS, answer.headers["etag"]).status_code == 304


def test_a_wait_with_an_old_tag_ends_at_once(running: tuple[Any, str, Any]) -> None:
    api, made, _ = running
    assert results_of(api, made, LONGEST_SECONDS, '"0"').status_code == 200


def test_a_wait_in_vain_ends_at_its_timeout(running: tuple[Any, str, Any]) -> None:
    api, made, _ = running
    tag = results_of(api, made).headers["etag"]
    began = time.monotonic()
    assert results_of(api, made, wait=0.3, tag=tag).status_code == 304
    assert results_of(api, made, wait=0.3).status_code == 200
    assert time.monotonic() - began >= 0.6


def test_a_wait_with_the_newest_tag_ends_with_the_next_change(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(train={"steps": 10})
    hand = by_hand(api.database)
    tag = results_of(api, made).headers["etag"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(results_of, api, made, LONGEST_SECONDS, tag)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        hand.metrics(1, train__loss=[1.0])
        answer = waiting.result()
    assert (answer.status_code, answer.json()["progress"]["step"]) == (200, 1)


def test_a_wait_without_a_tag_ends_when_the_experiment_does(running: tuple[Any, str, Any]) -> None:
    api, made, hand = running
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(results_of, api, made, LONGEST_SECONDS)
        hand.metrics(1, train__loss=[1.0])
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        hand.finish()
        assert waiting.result().json()["state"] == "succeeded"


def test_a_wait_for_an_experiment_that_is_deleted_ends_with_404(running: tuple[Any, str, Any]) -> None:
    api, made, hand = running
    tag = results_of(api, made).headers["etag"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(results_of, api, made, LONGEST_SECONDS, tag)
        hand.finish()
        api.client.delete(f"/v1/experiments/{made}")
        assert waiting.result().status_code in (200, 404)
    assert results_of(api, made, LONGEST_SECONDS).status_code == 404


def test_two_hundred_waiters_starve_nobody(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    api = sqlite_api
    made = api.submit(train={"steps": 10})
    hand = by_hand(api.database)
    tag = results_of(api, made).headers["etag"]
    changes = api.server._service.changes
    request = (
        f"GET /v1/experiments/{made}/results?wait={LONGEST_SECONDS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {api.key}\r\nIf-None-Match: {tag}\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", api.port)
        waiting = [stack.enter_context(socket.create_connection(address, timeout=90)) for _ in range(200)]
        for connection in waiting:
            connection.sendall(request)
        # All are in: requests behind them are answered while they wait.
        while len(changes._waiters) < 200:
            assert api.client.get("/healthz").status_code == 200
        for _ in range(10):
            assert api.client.get(f"/v1/experiments/{made}").status_code == 200
        assert len(changes._waiters) == 200
        hand.finish()
        for connection in waiting:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert not changes._waiters


def test_waiters_ask_for_nothing_while_nothing_changes(running: tuple[Any, str, Any]) -> None:
    api, made, _ = running
    asked: list[str] = []
    engine = api.server._service.changes._database.reading_engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    began = time.monotonic()
    assert results_of(api, made, wait=0.5).status_code == 200
    # At first, and then once a second to be sure, of the 25 times that it was looked.
    assert 1 <= sum("jobs" in statement for statement in asked) <= 2 + int(time.monotonic() - began)


def test_waiters_are_woken_when_the_service_ends(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url) as api, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(results_of, api, api.submit(), LONGEST_SECONDS)
        # It is there: one that comes later finds nobody.
        until(lambda: len(api.server._service.changes._waiters) == 1)
        api.server.should_exit = True
        assert waiting.result().json()["state"] == "queued"


def test_metrics_are_read_by_key_range_and_number_of_points(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(train={"steps": 10})
    hand = by_hand(api.database)
    losses = [float(step) for step in range(1, 101)]
    losses[49] = 1e6
    hand.metrics(1, train__loss=losses, lr=[0.1] * 100)
    hand.metrics(100, test__loss=[math.nan])
    address = f"/v1/experiments/{made}/metrics"
    whole = api.client.get(address).json()["series"]
    assert set(whole) == {"train/loss", "lr", "test/loss"}
    assert whole["train/loss"] == {"steps": list(range(1, 101)), "values": losses, "count": 100}
    assert whole["test/loss"] == {"steps": [100], "values": ["NaN"], "count": 1}
    assert api.client.get(f"{address}?keys=test/loss&keys=lr&first_step=101").json()["missing"] == []
    typo = api.client.get(f"{address}?keys=lr&keys=train/lost").json()
    assert (typo["missing"], typo["there_are"]) == (["train/lost"], ["lr", "test/loss", "train/loss"])
    part = api.client.get(f"{address}?keys=lr&keys=train/loss&first_step=10&last_step=12").json()["series"]
    assert part["train/loss"] == {"steps": [10, 11, 12], "values": [10.0, 11.0, 12.0], "count": 3}
    assert set(part) == {"lr", "train/loss"}
    few = api.client.get(f"{address}?keys=train/loss&max_points=12").json()["series"]["train/loss"]
    assert len(few["steps"]) == len(few["values"]) <= 12
    assert few["count"] == 100
    assert 1e6 in few["values"]


def test_a_key_without_points_is_an_empty_series(sqlite_api: Any) -> None:
    made = sqlite_api.submit()
    answer = sqlite_api.client.get(f"/v1/experiments/{made}/metrics?keys=train/loss&keys=norm/x")
    empty = {"steps": [], "values": [], "count": 0}
    both = ["train/loss", "norm/x"]
    assert answer.json() == {"series": dict.fromkeys(both, empty), "missing": both, "there_are": []}


def test_a_diverged_run_shows_its_numbers(running: tuple[Any, str, Any]) -> None:
    api, made, hand = running
    summary = {
        "steps": 3, "seconds": 1.0, "test_accuracy": 0.1, "test_loss": math.nan, "best_test_accuracy": 0.1,
        "steps_to_target": None, "diverged_at": 3,
    }  # fmt: skip
    hand.finish(work.Succeeded("diverged", summary))
    shown = results_of(api, made).json()
    assert (shown["state"], shown["stop_reason"]) == ("succeeded", "diverged")
    assert (shown["summary"]["test_loss"], shown["summary"]["diverged_at"]) == ("NaN", 3)
