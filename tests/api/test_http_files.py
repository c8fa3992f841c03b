"""Any file over HTTP: described, sent whole or in part, verified, and its owner's alone."""

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import update

from store import files, owners
from store.files import CHUNK_BYTES, Announced
from store.tables import ContentChunk
from tests.api.holders import holder

DATA = random.Random(3).randbytes(CHUNK_BYTES + 5000)
SHA256 = hashlib.sha256(DATA)
NAME = 'Größe "1"/a.csv'


@dataclass
class Stored:
    """A service with one file of an owner called `team`."""

    api: Any
    file_id: str

    @property
    def path(self) -> str:
        return f"/v1/files/{self.file_id}"


@pytest.fixture
def stored(api: Any) -> Stored:
    with api.database.write() as session:
        owner = owners.create(session, "team")
        begun = files.begin_of(session, owner, Announced(NAME, "source", None, len(DATA), SHA256.hexdigest()))
        for seq in range(2):
            chunk = DATA[seq * CHUNK_BYTES : (seq + 1) * CHUNK_BYTES]
            files.write_chunk_of(session, owner, begun.file_id, seq, chunk)
    with api.database.write() as session:
        files.complete_of(session, owner, begun.file_id, files.digest(api.database, begun.file_id))
    return Stored(api, begun.file_id)


def test_a_file_says_what_it_is_and_is_sent_as_it_was_stored(stored: Stored) -> None:
    client = stored.api.client
    shown = client.get(stored.path).json()
    assert (shown["name"], shown["kind"], shown["step"], shown["job_id"]) == (NAME, "source", None, None)
    assert (shown["size"], shown["sha256"]) == (len(DATA), SHA256.hexdigest())
    sent = client.get(shown["content"])
    assert (sent.status_code, sent.content) == (200, DATA)
    assert sent.headers["etag"] == f'"{SHA256.hexdigest()}"'
    assert sent.headers["repr-digest"] == f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"
    assert sent.headers["content-disposition"] == (
        "attachment; filename=\"Gr__e _1__a.csv\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22_a.csv"
    )
    head = client.head(shown["content"])
    assert (head.content, head.headers["content-length"]) == (b"", str(len(DATA)))
    same = client.get(shown["content"], headers={"If-None-Match": sent.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


@pytest.mark.parametrize("first", [0, CHUNK_BYTES - 3])
def test_a_part_that_spans_chunks_is_sent_alone(stored: Stored, first: int) -> None:
    last = first + 9
    answer = stored.api.client.get(f"{stored.path}/content", headers={"Range": f"bytes={first}-{last}"})
    assert (answer.status_code, answer.content) == (206, DATA[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"


def test_of_a_damaged_file_not_a_byte_is_sent(stored: Stored) -> None:
    with stored.api.database.write() as session:
        session.execute(update(ContentChunk).where(ContentChunk.seq == 1).values(data=b"x" * 5000))
    for method in ("GET", "HEAD"):
        answer = stored.api.client.request(method, f"{stored.path}/content", headers={"Range": "bytes=0-1"})
        assert answer.status_code == 410
    assert stored.api.client.get(f"{stored.path}/content").json()["code"] == "file_damaged"


def test_to_others_it_is_not_there_and_to_nobody_once_dropped(stored: Stored) -> None:
    with holder(stored.api, "team", "read") as mine, holder(stored.api, "others") as theirs:
        for path in (stored.path, f"{stored.path}/content"):
            assert mine.get(path).status_code == 200
            assert theirs.get(path).json()["code"] == "file_not_found"
        with stored.api.database.write() as session:
            files.drop(session, [stored.file_id])
        for path in (stored.path, f"{stored.path}/content"):
            assert mine.get(path).json()["code"] == "file_not_found"


def test_files_of_a_checkpoint_are_found_by_its_ids(api: Any, by_hand: Callable[..., Any]) -> None:
    base = f"/v1/experiments/{api.submit()}/checkpoints"
    checkpoint = by_hand(api.database).checkpoint("last", 3, b"weights", b"state")
    shown = api.client.get(f"{base}/{checkpoint}").json()
    found = [api.client.get(f"/v1/files/{shown[key]}").json() for key in ("weights_file", "state_file")]
    assert [(one["kind"], one["step"], one["size"]) for one in found] == [("weights", 3, 7), ("training_state", 3, 5)]
    assert [api.client.get(one["content"]).content for one in found] == [b"weights", b"state"]
