"""Uploads that nobody would send: cut off, mutated, misnumbered, misdescribed. None is an error of the service."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.datasets import begin, digest, put, sha256
from tests.api.test_http_datasets import rows_left

SETTINGS = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "database": None,
    "derandomize": True,
}
PIECES = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MUTATIONS = st.sampled_from(["none", "cut", "flip", "length", "digest", "number", "method", "chunked", "early"])


# Few while one works, many in the night.
OFTEN = pytest.mark.parametrize(
    "examples", [4, pytest.param(20, marks=pytest.mark.system), pytest.param(200, marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, serve: Any) -> Iterator[Any]:
    """One service for all of the file, on each kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("shared_api")
        return
    template = request.getfixturevalue("postgresql_template")
    with template.lend() as url, serve(url) as running:
        yield running


def remove(api: Any, dataset_id: str) -> None:
    """Whatever has become of it."""
    api.client.post(f"/v1/datasets/{dataset_id}/cancel")
    assert api.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204


def raw(api: Any, request: bytes) -> bytes:
    """What the server says to these bytes, after which nothing more comes."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


def request_of(api: Any, dataset_id: str, number: int, piece: bytes, how: str, at: int) -> bytes:
    """A PUT of a part, mutated."""
    said = {
        "method": "PATCH" if how == "method" else "PUT",
        "path": f"/v1/datasets/{dataset_id}/parts/{number * 10**at if how == 'number' else number}",
        "length": str(len(piece) + 7) if how == "length" else str(len(piece)),
        "digest": digest(piece)[: at + 3] if how == "digest" else digest(piece),
    }
    if how == "flip":
        piece = bytes([piece[0] ^ 0xFF]) + piece[1:]
    body = piece[: at % len(piece)] if how in ("cut", "early") else piece
    length = "Transfer-Encoding: chunked" if how == "chunked" else f"Content-Length: {said['length']}"
    head = (
        f"{said['method']} {said['path']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n{length}\r\n"
        f"Content-Digest: {said['digest']}\r\nConnection: close\r\n\r\n"
    ).encode()
    return head[: at * 20] if how == "early" else head + body


@OFTEN
def test_no_truncated_or_mutated_part_is_an_error_of_ours_or_counts(api, examples):
    @settings(max_examples=examples, **SETTINGS)
    @given(pieces=PIECES, how=MUTATIONS, at=st.integers(0, 9), which=st.integers(0, 1))
    def holds(pieces, how, at, which):
        send_mutated(api, pieces, how, at, which % len(pieces))

    holds()


def send_mutated(api, pieces, how, at, wrong):
    """Parts of which one is wrong: it is refused or what was meant, and nothing else counts."""
    dataset_id = begin(api.client)["id"]
    for number, piece in enumerate(pieces, start=1):
        if number - 1 != wrong:
            assert put(api.client, dataset_id, number, piece).status_code == 204
    answer = raw(api, request_of(api, dataset_id, wrong + 1, pieces[wrong], how, at))
    assert answer == b"" or answer.split()[1][:1] in (b"2", b"4"), answer
    there = api.client.get(f"/v1/datasets/{dataset_id}/parts").json()["data"]
    meant = [(len(piece), sha256(piece)) for piece in pieces]
    # What counts is what was meant, whatever came.
    assert all(
        (one["size"], one["sha256"]) == meant[min(one["number"], len(meant)) - 1] for one in there if how != "number"
    )
    complete = api.client.post(f"/v1/datasets/{dataset_id}/complete", json={"sha256": sha256(b"".join(pieces))})
    assert complete.status_code in (200, 202, 409, 422)
    remove(api, dataset_id)


@OFTEN
def test_no_description_of_a_data_set_is_an_error_of_ours(api, examples):
    keys = st.sampled_from(["name", "resize", "csv", "columns", "impute", "sha256", "huggingface", "hat"])

    @settings(max_examples=examples, **SETTINGS)
    @given(body=JSON, key=keys)
    def holds(body, key):
        text = json.dumps({"name": "n", key: body})
        answer = api.client.post("/v1/datasets", content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in (201, 202, 422), (text, answer.text)
        if answer.status_code != 422:
            remove(api, answer.json()["id"])

    holds()


def test_nothing_is_left_of_all_that(api):
    assert api.client.get("/v1/datasets").json()["data"] == []
    assert api.client.get("/v1/datasets?state=uploading").json()["data"] == []
    assert rows_left(api) == 0
