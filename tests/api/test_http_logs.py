"""What trainers print, over HTTP: read whole, from its end, and followed from attempt to attempt."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from store import logs, work
from tests.api.holders import holder
from tests.api.trouble import until


class Printing:
    """A trainer's printing, by hand."""

    def __init__(self, hand: Any) -> None:
        self.hand = hand
        self.size = 0

    def say(self, text: str) -> None:
        data = text.encode()
        with self.hand.database.write() as session:
            logs.append(session, self.hand.lease, self.size, data)
        self.size += len(data)


@pytest.fixture
def printing(api: Any, by_hand: Callable[..., Any]) -> Any:
    """The service, the address of the log, and a trainer that prints into it."""
    made = api.submit()
    return api, f"/v1/experiments/{made}/logs", Printing(by_hand(api.database))


def test_a_log_is_read_whole_in_part_and_from_its_end(printing: Any) -> None:
    api, address, trainer = printing
    trainer.say("one\ntwo\nGröße \x1b[31m\nunfinished")
    whole = api.client.get(address)
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text == "one\ntwo\nGröße \N{REPLACEMENT CHARACTER}[31m\n"
    assert (whole.headers["x-attempt"], whole.headers["cache-control"]) == ("1", "no-store")
    rest = api.client.get(f"{address}?after={whole.headers['x-next-offset']}")
    assert rest.text == "unfinished"
    assert api.client.get(f"{address}?tail=2").text == "Größe \N{REPLACEMENT CHARACTER}[31m\n"
    assert api.client.get(f"{address}?attempt=7").text == ""
    head = api.client.head(address)
    assert (head.text, head.headers["x-next-offset"]) == ("", whole.headers["x-next-offset"])
    with holder(api) as stranger:
        assert stranger.get(address).status_code == 404
    for query in ("tail=0", "tail=1&after=0", "after=-1", "wait=61", "attempt=0", "lines=5"):
        assert api.client.get(f"{address}?{query}").status_code == 422, query


def test_what_was_not_kept_is_said(printing: Any) -> None:
    api, address, trainer = printing
    trainer.say("head\n")
    trainer.size = 1_000_000
    trainer.say("tail\n")
    assert api.client.get(address).text == "head\n"
    assert api.client.get(f"{address}?after=5").text == "[999995 bytes are not kept]\ntail\n"
    assert api.client.get(f"{address}?tail=5").text == "tail\n"


def follow(client: httpx.Client, address: str, hear: Callable[[str], None]) -> None:
    """As the description of the operation says."""
    answer = client.get(address)
    hear(answer.text)
    while "next" in answer.links:
        answer = client.get(f"{answer.links['next']['url']}&wait=30")
        hear(answer.text)


def test_a_log_is_followed_over_all_attempts_to_the_end(printing: Any, by_hand: Callable[..., Any]) -> None:
    api, address, trainer = printing
    heard: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, api.client, address, heard.append)
        trainer.say("first\n")
        until(lambda: "first\n" in "".join(heard))
        trainer.hand.finish(work.Released())
        again = Printing(by_hand(api.database))
        again.say("second\n")
        until(lambda: "second\n" in "".join(heard))
        again.say("the end\n")
        again.hand.finish()
        following.result()
    assert "".join(heard) == "first\nsecond\nthe end\n"


def test_who_follows_does_not_keep_the_service_from_ending(sqlite_url: str, serve: Callable[..., Any]) -> None:
    asked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with serve(sqlite_url) as api:
            made = api.submit()
            client = httpx.Client(base_url=api.url, headers=api.client.headers, timeout=300)
            client.event_hooks = {"request": [lambda _request: asked.set()]}
            waiting = pool.submit(client.get, f"/v1/experiments/{made}/logs?wait=60")
            assert asked.wait(60)
            until(lambda: len(api.server._service.changes._waiters) == 1)
        assert waiting.result().text == ""
        client.close()
