"""Conditions in headers, HEAD, and parts of files."""

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

WEIGHTS = random.Random(0).randbytes(2 * (1 << 20) + 12_345)
SIZE = len(WEIGHTS)
TAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'


@pytest.fixture(scope="module")
def content(shared_api: Any, by_hand: Callable[..., Any]) -> str:
    """The address of a file of more than two chunks."""
    made = shared_api.submit()
    hand = by_hand(shared_api.database)
    checkpoint = hand.checkpoint("last", 500, WEIGHTS, b"state")
    hand.finish()
    return f"/v1/experiments/{made}/checkpoints/{checkpoint}/content"


@pytest.mark.parametrize("act", [("POST", "/cancel"), ("DELETE", "")], ids=["cancel", "delete"])
def test_a_change_can_be_made_to_depend_on_what_was_seen(api: Any, act: tuple[str, str]) -> None:
    made = f"/v1/experiments/{api.submit()}"
    old = api.client.get(made).headers["etag"]
    api.client.post(f"{made}/cancel")
    now = api.client.get(made).headers["etag"]
    method, part = act
    for tags in (old, f"W/{now}", '"x", "y"'):
        refused = api.client.request(method, made + part, headers={"If-Match": tags})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
        assert refused.headers["etag"] == now
    assert api.client.get(made).headers["etag"] == now
    assert api.client.request(method, made + part, headers={"If-Match": f'"x", {now}'}).is_success


def test_any_state_will_do_for_a_star_but_not_none(api: Any) -> None:
    made = f"/v1/experiments/{api.submit()}"
    assert api.client.post(f"{made}/cancel", headers={"If-Match": "*"}).status_code == 200
    assert api.client.delete(made, headers={"If-Match": "*"}).status_code == 204
    assert api.client.delete(made, headers={"If-Match": "*"}).status_code == 404


def test_head_is_get_without_the_body(shared_api: Any, content: str) -> None:
    one = content.split("/checkpoints")[0]
    addresses = [
        "/healthz", "/readyz", "/openapi.json", "/docs", "/", "/v1/networks", "/v1/experiments", one, f"{one}/results",
        f"{one}/metrics", f"{one}/events", f"{one}/checkpoints", content, "/v1/experiments/x", f"{one}?x=1&x=2",
    ]  # fmt: skip
    for address in addresses:
        whole, head = shared_api.client.get(address), shared_api.client.head(address)
        assert (head.status_code, head.content) == (whole.status_code, b""), address
        assert own_headers(head) == own_headers(whole), address
    assert shared_api.client.head(one, headers={"If-None-Match": "*"}).status_code == 304
    assert shared_api.client.head(f"{one}/cancel").status_code == 405


def own_headers(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id", "ratelimit")}


def test_head_of_a_large_file_reads_none_of_it(shared_api: Any, content: str) -> None:
    pieces = shared_api.client.head(content, headers={"Range": "bytes=0-0"})
    assert (pieces.status_code, pieces.headers["content-length"]) == (200, str(SIZE))
    assert pieces.headers["accept-ranges"] == "bytes"


PARTS = {
    "bytes=0-0": (0, 1), "bytes=1-9": (1, 10), "bytes=1048575-1048576": (1048575, 1048577),
    "bytes=2000000-": (2000000, SIZE), "bytes=-5": (SIZE - 5, SIZE), f"bytes=0-{SIZE * 2}": (0, SIZE),
    f"bytes=-{SIZE * 2}": (0, SIZE), f"bytes={SIZE - 1}-": (SIZE - 1, SIZE), "BYTES=3-4": (3, 5),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "part"), PARTS.items(), ids=PARTS)
def test_a_part_of_a_file_is_sent_alone(shared_api: Any, content: str, asked: str, part: tuple[int, int]) -> None:
    answer = shared_api.client.get(content, headers={"Range": asked})
    first, end = part
    assert answer.status_code == 206
    assert answer.content == WEIGHTS[first:end]
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - first)
    assert answer.headers["etag"] == TAG


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_part_behind_the_end_is_refused_with_the_size(shared_api: Any, content: str, asked: str) -> None:
    answer = shared_api.client.get(content, headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=1", ""])
def test_what_is_not_one_range_is_answered_with_the_whole(shared_api: Any, content: str, asked: str) -> None:
    answer = shared_api.client.get(content, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


def test_a_part_is_sent_only_of_the_file_that_was_begun(shared_api: Any, content: str) -> None:
    part = {"Range": "bytes=5-9"}
    assert shared_api.client.get(content, headers={**part, "If-Range": TAG}).status_code == 206
    for other in ('"x"', f"W/{TAG}", "Sat, 28 Nov 2026 00:00:00 GMT"):
        assert shared_api.client.get(content, headers={**part, "If-Range": other}).status_code == 200
    assert shared_api.client.get(content, headers={**part, "If-None-Match": TAG}).status_code == 304
