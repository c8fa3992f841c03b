"""Checkpoints over HTTP: whole, verified, and in no hurry to fill memory."""

import base64
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from store.tables import ContentChunk, File

WEIGHTS = random.Random(0).randbytes(2 * (1 << 20) + 12_345)
STATE = random.Random(1).randbytes(1 << 20)


@pytest.fixture
def stored(api: Any, by_hand: Callable[..., Any]) -> tuple[Any, str, str]:
    """The service, and the addresses of the experiment and of its newest checkpoint."""
    base = f"/v1/experiments/{api.submit()}"
    hand = by_hand(api.database)
    checkpoint = hand.checkpoint("last", 500, WEIGHTS, STATE)
    return api, base, f"{base}/checkpoints/{checkpoint}"


def test_a_checkpoint_of_many_chunks_comes_back_byte_for_byte(stored: tuple[Any, str, str]) -> None:
    api, base, one = stored
    with api.client.stream("GET", f"{one}/content") as answer:
        digest, size = hashlib.sha256(), 0
        for piece in answer.iter_bytes():
            digest.update(piece)
            size += len(piece)
    assert (answer.status_code, size, answer.headers["content-length"]) == (200, len(WEIGHTS), str(len(WEIGHTS)))
    assert digest.digest() == hashlib.sha256(WEIGHTS).digest()
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    name = f"{base.rsplit('/', 1)[1]}-last-000000500.safetensors"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_the_training_state_comes_only_on_request(stored: tuple[Any, str, str]) -> None:
    api, _, one = stored
    answer = api.client.get(f"{one}/content?file=training_state")
    assert answer.content == STATE
    assert answer.headers["etag"] == f'"{hashlib.sha256(STATE).hexdigest()}"'
    assert ".state.safetensors" in answer.headers["content-disposition"]


def test_whoever_has_the_bytes_is_not_sent_them_again(stored: tuple[Any, str, str]) -> None:
    api, _, one = stored
    tag = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    answer = api.client.get(f"{one}/content", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)


def test_checkpoints_are_listed_with_where_their_bytes_are(stored: tuple[Any, str, str]) -> None:
    api, base, one = stored
    listed = api.client.get(f"{base}/checkpoints").json()
    (shown,) = listed["data"]
    assert (listed["has_more"], listed["next_cursor"]) == (False, None)
    assert shown == api.client.get(one).json()
    assert (shown["kind"], shown["step"], shown["epoch"], shown["size"]) == ("last", 500, 1, len(WEIGHTS))
    assert shown["metrics"] == {"test/accuracy": 0.9}
    assert shown["content"] == f"{one}/content"
    assert api.client.get(shown["training_state"]["content"]).content == STATE


def test_a_checkpoint_is_found_only_under_its_own_experiment(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    api = sqlite_api
    api.submit()
    hand = by_hand(api.database)
    checkpoint = hand.checkpoint("best", 1, b"weights")
    other = api.submit()
    answer = api.client.get(f"/v1/experiments/{other}/checkpoints/{checkpoint}/content")
    assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint_not_found")


def test_a_checkpoint_without_training_state_says_so(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    api = sqlite_api
    base = f"/v1/experiments/{api.submit()}"
    checkpoint = by_hand(api.database).checkpoint("best", 1, b"weights")
    address = f"{base}/checkpoints/{checkpoint}"
    assert api.client.get(address).json()["training_state"] is None
    assert api.client.get(f"{address}/content?file=training_state").status_code == 404
    assert api.client.get(f"{address}/content").content == b"weights"


DAMAGE = {
    "another byte": update(ContentChunk).where(ContentChunk.seq == 2).values(data=b"x" * 12_345),
    "a cut chunk": update(ContentChunk).where(ContentChunk.seq == 1).values(data=b"x"),
    "a lost chunk": delete(ContentChunk).where(ContentChunk.seq == 1),
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_of_a_damaged_file_not_a_byte_is_sent(stored: tuple[Any, str, str], statement: Any) -> None:
    api, _, one = stored
    with api.database.write() as session:
        session.execute(statement)
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = api.client.get(f"{one}/content", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (410, "checkpoint_damaged")
    assert api.client.head(f"{one}/content").status_code == 410
    assert api.client.get(f"{one}/content?file=training_state").content == STATE


def test_a_file_that_was_compared_is_not_read_whole_for_a_part(stored: tuple[Any, str, str]) -> None:
    api, _, one = stored
    assert api.client.get(f"{one}/content").content == WEIGHTS
    with api.database.write() as session:
        session.execute(delete(ContentChunk).where(ContentChunk.seq == 2))
    part = api.client.get(f"{one}/content", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, WEIGHTS[:10])


def test_a_stream_holds_no_connection_of_the_database(stored: tuple[Any, str, str]) -> None:
    api, _, one = stored
    pool = api.server._service.database.engine.pool
    with api.client.stream("GET", f"{one}/content") as answer:
        pieces = answer.iter_bytes()
        next(pieces)
        with api.database.write() as session:
            state = select(File.content_id).where(File.kind == "training_state")
            session.execute(delete(ContentChunk).where(ContentChunk.content_id.in_(state)))
        size = sum(map(len, pieces))
    assert 0 < size < len(WEIGHTS)
    assert pool.checkedout() == 0
