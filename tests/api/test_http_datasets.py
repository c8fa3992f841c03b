"""Bringing data in over HTTP: in parts, once, checked, looked at, used, deleted."""

import socket
import threading

import httpx
import pytest
from sqlalchemy import func, select

from store import keys, owners, purging, work
from store.datasets import uploads
from store.tables import Content, ContentChunk, File, UploadPart
from tests.api.datasets import PNG, begin, digest, imported, put, sha256, uploaded
from tests.api.trouble import until

SHA = "0" * 64


@pytest.fixture
def stranger(api):
    """Another owner's client."""
    with api.database.write() as session:
        owner = owners.create(session, "somebody else")
        secret = keys.create(session, "other", owner=owner, scopes=[keys.KeyScope.SUBMIT]).secret
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {secret}"}, timeout=300) as client:
        yield client


def rows_left(api):
    """Of uploads and files, once all that is due was purged."""
    more = 1
    while more:
        with api.database.write() as session:
            more = uploads.purge(session) + purging.purge(session)
    with api.database.read() as session:
        counts = [session.scalar(select(func.count()).select_from(one)) for one in (File, Content, ContentChunk)]
        return sum(counts) + session.scalar(select(func.count()).select_from(UploadPart))


def test_a_file_comes_in_parts_and_is_shown_from_the_first_to_its_report(api, by_hand, tmp_path):
    begun = begin(api.client, name="mine", file_name="../../x/da ta.npz", resize=8)
    assert (begun["state"], begun["source"]["file_name"], begun["upload"]["data"]) == ("uploading", "da ta.npz", [])
    assert begun["options"]["resize"] == 8
    pieces = [b"a" * 2_500_000, b"b" * 1_048_576, b"c"]
    for number in (3, 1, 2):
        assert put(api.client, begun["id"], number, pieces[number - 1]).status_code == 204
    there = api.client.get(f"/v1/datasets/{begun['id']}/parts").json()["data"]
    assert there == [
        {"number": number, "size": len(piece), "sha256": sha256(piece)} for number, piece in enumerate(pieces, start=1)
    ]
    assert [one["id"] for one in api.client.get("/v1/datasets?state=uploading").json()["data"]] == [begun["id"]]
    whole = sha256(b"".join(pieces))
    for status, already in ((202, False), (202, False)):
        answer = api.client.post(f"/v1/datasets/{begun['id']}/complete", json={"sha256": whole})
        assert (answer.status_code, answer.json()["already_there"], answer.json()["state"]) == (
            status,
            already,
            "queued",
        )
    assert api.client.get("/v1/datasets?state=uploading").json()["data"] == []
    assert api.client.get("/v1/datasets").json()["data"][0]["source"]["sha256"] == whole


def test_what_was_imported_is_read_back_as_it_was_made(api, by_hand, tmp_path):
    dataset = imported(api, by_hand, tmp_path)
    assert (dataset["state"], dataset["task"], dataset["outputs"]) == ("succeeded", "classification", 3)
    assert dataset["examples"] == {"train": 30}
    assert dataset["report"] == {"examples": {"train": 30}}
    base = f"/v1/datasets/{dataset['id']}"
    listed = {file["name"]: file for file in api.client.get(f"{base}/files").json()["data"]}
    assert set(listed) == {"dataset.json", "train-inputs.npy", "train-targets.npy", "report.json", "contact.png"}
    assert listed["dataset.json"]["sha256"] == dataset["sha256"]
    for file in listed.values():
        answer = api.client.get(file["content"])
        assert (sha256(answer.content), answer.headers["ETag"]) == (file["sha256"], f'"{file["sha256"]}"')
    part = api.client.get(listed["train-inputs.npy"]["content"], headers={"Range": "bytes=0-5"})
    assert (part.status_code, part.content) == (206, b"\x93NUMPY")
    sheet = api.client.get(f"{base}/contact-sheet")
    assert (sheet.headers["content-type"], sheet.content) == ("image/png", PNG)
    assert api.client.get(f"{base}/report").json() == {"warnings": []}
    kinds = [line["kind"] for line in api.client.get(f"{base}/events").json()["data"]]
    assert kinds == ["submitted", "claimed", "succeeded"]


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Digest": digest(b"another")}, b"piece", 422, "digest_mismatch"),
        ({"Content-Digest": "md5=:AAAA:"}, b"piece", 400, "digest_required"),
        ({}, b"piece", 400, "digest_required"),
        ({"Content-Digest": digest(b"")}, b"", 411, "length_required"),
        ({"Content-Digest": digest(b"piece"), "Content-Encoding": "gzip"}, b"piece", 411, "length_required"),
        ({"Content-Digest": digest(b"piece")}, iter([b"pie", b"ce"]), 411, "length_required"),
    ],
)
def test_a_part_that_is_not_what_it_says_is_refused_and_leaves_nothing(sqlite_api, headers, content, status, code):
    dataset_id = begin(sqlite_api.client)["id"]
    answer = sqlite_api.client.put(f"/v1/datasets/{dataset_id}/parts/1", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert rows_left(sqlite_api) == 0


def test_sizes_are_bounded_before_a_byte_is_stored(serve, sqlite_url):
    with serve(sqlite_url, max_part_bytes=100, max_upload_bytes=150) as api:
        dataset_id = begin(api.client)["id"]
        assert put(api.client, dataset_id, 1, b"x" * 101).json()["code"] == "body_too_large"
        assert put(api.client, dataset_id, 1, b"x" * 100).status_code == 204
        assert put(api.client, dataset_id, 2, b"x" * 51).json()["code"] == "upload_too_large"
        assert put(api.client, dataset_id, 2, b"x" * 50).status_code == 204
        assert put(api.client, dataset_id, 1, b"y" * 90).status_code == 204
        refused = api.client.post("/v1/datasets", json={"name": "n", "file_size": 151})
        assert (refused.status_code, refused.json()["code"]) == (413, "upload_too_large")
        for number in (0, 10_001):
            assert put(api.client, dataset_id, number, b"x").status_code == 404


def test_options_are_checked_before_anything_is_sent(shared_api):
    answer = shared_api.client.post("/v1/datasets", json={"name": "", "resize": -1, "hat": 1, "csv": {"x": 1}})
    assert answer.status_code == 422
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/name", "/resize", "/hat", "/csv/x"}


def test_what_is_there_need_not_be_sent_and_what_is_missing_is_named(api):
    first = uploaded(api.client, b"one", b"two")
    known = api.client.post("/v1/datasets", json={"name": "other", "sha256": sha256(b"onetwo")})
    assert (known.status_code, known.json()["id"], known.json()["already_there"]) == (200, first["id"], True)
    again = uploaded(api.client, b"onetwo")
    assert (again["id"], again["already_there"]) == (first["id"], True)
    other = begin(api.client, grayscale=True)["id"]
    put(api.client, other, 2, b"two")
    complete = f"/v1/datasets/{other}/complete"
    missing = api.client.post(complete, json={"sha256": SHA})
    assert (missing.status_code, missing.json()["missing"]) == (409, [1])
    put(api.client, other, 1, b"one")
    mismatch = api.client.post(complete, json={"sha256": SHA})
    assert (mismatch.status_code, mismatch.json()["errors"][0]["pointer"]) == (422, "/sha256")
    assert api.client.post(complete, json={"sha256": sha256(b"onetwo")}).status_code == 202
    assert put(api.client, other, 1, b"one").json()["code"] == "upload_completed"


def test_one_idempotency_key_is_one_upload(sqlite_api):
    def post(**body):
        return sqlite_api.client.post("/v1/datasets", json={"name": "n", **body}, headers={"Idempotency-Key": "k"})

    first = post().json()["id"]
    put(sqlite_api.client, first, 1, b"piece")
    assert (post().json()["id"], len(post().json()["upload"]["data"])) == (first, 1)
    assert post(resize=3).json()["code"] == "idempotency_conflict"


def test_nobody_sees_or_touches_the_data_of_another_owner(api, by_hand, tmp_path, stranger):
    waiting, dataset = begin(api.client)["id"], imported(api, by_hand, tmp_path)
    file = api.client.get(f"/v1/datasets/{dataset['id']}/files").json()["data"][0]
    for one in (waiting, dataset["id"]):
        for method, path in (
            ("GET", ""), ("DELETE", ""), ("GET", "/parts"), ("POST", "/complete"), ("POST", "/cancel"),
            ("POST", "/retry"), ("GET", "/files"), ("GET", "/report"), ("GET", "/contact-sheet"), ("GET", "/events"),
        ):  # fmt: skip
            body = {"json": {"sha256": SHA}} if path == "/complete" else {}
            answer = stranger.request(method, f"/v1/datasets/{one}{path}", **body)
            assert answer.status_code == 404, (method, path, answer.text)
        assert put(stranger, one, 1, b"mine now").status_code == 404
    assert stranger.get(file["content"]).status_code == 404
    assert stranger.get("/v1/datasets").json()["data"] == []
    refused = stranger.post("/v1/experiments", json={"data": {"kind": "dataset", "id": dataset["id"]}})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/data/id")
    other = uploaded(stranger, b"source")
    assert (other["already_there"], other["id"] != dataset["id"]) == (False, True)


def test_an_experiment_on_it_is_complete_however_it_is_asked_for_and_keeps_it(api, by_hand, tmp_path):
    first, second = (imported(api, by_hand, tmp_path, source) for source in (b"1", b"2"))
    spec = {"data": {"kind": "dataset", "id": first["id"]}, "train": {"batch_size": 8}}
    tried = api.client.post("/v1/experiments:validate", json=spec)
    assert tried.status_code == 200, tried.text
    experiment_id = api.submit(**spec)
    stored = api.client.get(f"/v1/experiments/{experiment_id}").json()["spec"]
    assert stored["data"]["sha256"] == first["sha256"]
    assert (stored["data"]["examples"]["train"], stored["data"]["outputs"]) == (30, 3)
    assert tried.json()["spec"]["data"] == stored["data"]
    assert api.submit(**stored)
    patch = {"data": {"id": second["id"]}}
    clone = api.client.post(f"/v1/experiments/{experiment_id}/clone", json=patch)
    assert clone.status_code == 202, clone.text
    assert clone.json()["spec"]["data"]["sha256"] == second["sha256"]
    for wrong in ({"id": "dat_" + "0" * 32}, {"sha256": SHA}, {"outputs": 4}):
        refused = api.client.post("/v1/experiments", json={**stored, "data": {**stored["data"], **wrong}})
        assert refused.status_code == 422, wrong
        assert refused.json()["errors"][0]["pointer"] == f"/data/{next(iter(wrong))}"
    kept = api.client.delete(f"/v1/datasets/{second['id']}")
    assert (kept.status_code, kept.json()["used_by"]) == (409, [clone.json()["id"]])
    api.client.post(f"/v1/experiments/{clone.json()['id']}/cancel")
    assert api.client.delete(f"/v1/experiments/{clone.json()['id']}").status_code == 204
    assert api.client.delete(f"/v1/datasets/{second['id']}").status_code == 204
    assert api.client.get(f"/v1/datasets/{second['id']}").status_code == 404


def test_who_waits_is_answered_when_the_import_ends(sqlite_api, by_hand):
    dataset_id = uploaded(sqlite_api.client, b"bad")["id"]
    found = []

    def wait():
        with httpx.Client(base_url=sqlite_api.url, headers=sqlite_api.client.headers, timeout=300) as client:
            found.append(client.get(f"/v1/datasets/{dataset_id}", params={"wait": 60}).json())

    waiting = threading.Thread(target=wait)
    waiting.start()
    by_hand(sqlite_api.database).finish(work.Failed("invalid_data", "images of two sizes"))
    waiting.join()
    assert (found[0]["state"], found[0]["failure"]["message"]) == ("failed", "images of two sizes")
    assert sqlite_api.client.post(f"/v1/datasets/{dataset_id}/retry").json()["code"] == "source_gone"
    etag = sqlite_api.client.get(f"/v1/datasets/{dataset_id}").headers["ETag"]
    again = sqlite_api.client.get(f"/v1/datasets/{dataset_id}", headers={"If-None-Match": etag})
    assert again.status_code == 304
    assert rows_left(sqlite_api) == 0


def test_cancel_ends_an_import_and_delete_an_upload(sqlite_api):
    dataset_id = uploaded(sqlite_api.client, b"source")["id"]
    assert sqlite_api.client.delete(f"/v1/datasets/{dataset_id}").status_code == 409
    for action, state in (("cancel", "cancelled"), ("retry", "queued"), ("cancel", "cancelled")):
        assert sqlite_api.client.post(f"/v1/datasets/{dataset_id}/{action}").json()["state"] == state
    assert sqlite_api.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    waiting = begin(sqlite_api.client)["id"]
    put(sqlite_api.client, waiting, 1, b"piece")
    assert sqlite_api.client.delete(f"/v1/datasets/{waiting}").status_code == 204
    assert rows_left(sqlite_api) == 0


def test_a_deleted_one_is_not_found_however_often_it_is_deleted(sqlite_api):
    dataset_id = uploaded(sqlite_api.client, b"source")["id"]
    assert sqlite_api.client.post(f"/v1/datasets/{dataset_id}/cancel").status_code == 200
    found = [sqlite_api.client.delete(f"/v1/datasets/{dataset_id}").status_code for _ in range(3)]
    assert found == [204, 404, 404]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(sqlite_api):
    dataset_id = begin(sqlite_api.client)["id"]
    head = (
        f"PUT /v1/datasets/{dataset_id}/parts/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sqlite_api.key}\r\n"
        f"Content-Length: 3000000\r\nContent-Digest: {digest(b'x')}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", sqlite_api.port)) as connection:
        connection.sendall(head.encode() + b"x" * 2_000_000)
    until(lambda: not rows_left(sqlite_api))
    assert sqlite_api.client.get(f"/v1/datasets/{dataset_id}/parts").json()["data"] == []


def test_many_parts_at_once_are_all_there_and_others_are_answered_meanwhile(api):
    dataset_id = begin(api.client)["id"]
    pieces = [bytes([number]) * 1_200_000 for number in range(12)]
    failed = []

    def send(number):
        with httpx.Client(base_url=api.url, headers=api.client.headers, timeout=300) as client:
            answer = put(client, dataset_id, number + 1, pieces[number])
            if answer.status_code != 204:
                failed.append(answer.text)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert api.client.post("/v1/experiments", json={}).status_code == 202
    assert failed == []
    answer = api.client.post(f"/v1/datasets/{dataset_id}/complete", json={"sha256": sha256(b"".join(pieces))})
    assert answer.status_code == 202
