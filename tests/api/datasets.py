"""What tests of data sets over HTTP do: parts with their digests, and an import done by hand."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx

from store import work
from tests.canonical import images, vectors, write_canonical

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(client: httpx.Client, dataset_id: str, number: int, content: bytes, **headers: str) -> httpx.Response:
    said = {"Content-Digest": digest(content), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.put(f"/v1/datasets/{dataset_id}/parts/{number}", content=content, headers=said)


def begin(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/datasets", json={"name": "n", **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def uploaded(client: httpx.Client, *pieces: bytes, **body: Any) -> dict[str, Any]:
    """A data set whose import is queued."""
    dataset_id = begin(client, **body)["id"]
    for number, piece in enumerate(pieces, start=1):
        assert put(client, dataset_id, number, piece).status_code == 204
    answer = client.post(f"/v1/datasets/{dataset_id}/complete", json={"sha256": sha256(b"".join(pieces))})
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def imported(
    api: Any, by_hand: Any, folder: Path, source: bytes = b"source", kind: str = "image", classes: Any = None
) -> dict[str, Any]:
    """A data set that can be read, of a few images, or of vectors."""
    dataset_id = uploaded(api.client, source)["id"]
    worker = by_hand(api.database)
    assert worker.lease.job_id == dataset_id
    seed = int(sha256(source)[:6], 16)
    arrays = images(30, seed) if kind == "image" else vectors(30, seed)
    signal = {"kind": kind, "shape": [1, 8, 8] if kind == "image" else [4]}
    write_canonical(folder / dataset_id, signal, "classification", 3, classes, train=arrays)
    for path in sorted((folder / dataset_id).glob("*/*")):
        worker.file(path.name, path.read_bytes())
    worker.file("report.json", b'{"warnings": []}', "report")
    worker.file("contact.png", PNG, "picture")
    worker.finish(work.Concluded({"examples": {"train": 30}}))
    return dict(api.client.get(f"/v1/datasets/{dataset_id}").json())
