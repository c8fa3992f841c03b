"""Stored bytes that are not what they were: found by whoever reads them, and never taken for those bytes again."""

from typing import Any

from sqlalchemy import select, update

from store.tables import Content, ContentChunk
from tests.api.datasets import begin, imported, put, sha256

QUIETLY = {"synchronize_session": False}


def damage(api: Any, content: bytes) -> str:
    """Flip a bit of a content; its id."""
    with api.database.write() as session:
        (found,) = session.scalars(select(Content.id).where(Content.sha256 == sha256(content), Content.uses > 0))
        flipped = bytes([content[0] ^ 1]) + content[1:]
        chunk = update(ContentChunk).where(ContentChunk.content_id == found, ContentChunk.seq == 0)
        session.execute(chunk.values(data=flipped), execution_options=QUIETLY)
    return str(found)


def may_be_shared(api: Any, content_id: str) -> bool:
    with api.database.read() as session:
        found = session.scalars(select(Content.whole_at).where(Content.id == content_id)).one_or_none()
    return found is not None


def test_a_damaged_part_is_missing_and_its_bytes_are_stored_anew(api: Any) -> None:
    dataset_id, pieces = begin(api.client)["id"], [b"first", b"second"]
    for number, piece in enumerate(pieces, start=1):
        assert put(api.client, dataset_id, number, piece).status_code == 204
    content_id = damage(api, b"second")
    complete, whole = f"/v1/datasets/{dataset_id}/complete", {"sha256": sha256(b"".join(pieces))}
    answer = api.client.post(complete, json=whole)
    assert (answer.status_code, answer.json()["code"], answer.json()["missing"]) == (409, "parts_missing", [2])
    assert not may_be_shared(api, content_id)
    there = api.client.get(f"/v1/datasets/{dataset_id}/parts").json()["data"]
    assert [part["number"] for part in there] == [1]
    assert put(api.client, dataset_id, 2, b"second").status_code == 204
    assert api.client.post(complete, json=whole).status_code == 202


def test_a_damaged_file_is_not_sent_and_what_has_its_bytes_is_stored_anew(
    api: Any, by_hand: Any, tmp_path: Any
) -> None:
    dataset = imported(api, by_hand, tmp_path)
    (file,) = [
        one
        for one in api.client.get(f"/v1/datasets/{dataset['id']}/files").json()["data"]
        if one["name"] == "train-targets.npy"
    ]
    content = api.client.get(file["content"]).content
    # Found whole a moment ago: another process looks for itself.
    api.server.config.app.state.service.integrity._whole_until.clear()
    content_id = damage(api, content)
    assert may_be_shared(api, content_id)
    assert api.client.get(file["content"]).status_code == 410
    assert not may_be_shared(api, content_id)
    again = begin(api.client)["id"]
    assert put(api.client, again, 1, content).status_code == 204
    answer = api.client.post(f"/v1/datasets/{again}/complete", json={"sha256": sha256(content)})
    assert answer.status_code == 202, answer.text
