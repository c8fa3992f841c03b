"""Imports, evaluations and predictions, beside the experiments: what is sent, and what it comes to undisturbed.

Invariant: every import has bytes of its own, so that none is taken for another one, and comes to the same data set.
"""

import base64
import functools
import hashlib
import io
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.chaos.sending import Sender

_IMAGES = 20_000
_PART_BYTES = 300_000
_WAIT_SECONDS = 300.0
# Parts that are sent twice, the answer of the first being lost, may change while they are put together.
_CHANGED = 409
# No worker was free in time.
_UNANSWERED = 504
_INPUTS = [[[[(row + column + number) / 20 for column in range(8)] for row in range(8)]] for number in range(3)]
NAMES = ("import", "shifted", "prediction", "brought")
"""What comes beside one experiment after another; two of them are evaluations."""


@dataclass(frozen=True)
class Undisturbed:
    """What each comes to, and what evaluations and predictions are of."""

    experiment_id: str
    dataset_id: str
    sha256: str
    """Of the data set in canonical form."""
    results: Mapping[str, Any]
    """Of evaluations, by name."""
    answer: Any


def bring(sender: Sender, key: str, number: int) -> str:
    """Upload a data set in parts and have it imported; its id."""
    content = _source(number)
    wanted = {"name": f"chaos-{number}", "file_name": "chaos.npz"}
    begun = sender.insist("POST", "/v1/datasets", json=wanted, headers=_key(key)).json()
    if begun["state"] != "uploading":
        return str(begun["id"])
    path = f"/v1/datasets/{begun['id']}"
    for part, start in enumerate(range(0, len(content), _PART_BYTES), start=1):
        piece = content[start : start + _PART_BYTES]
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        sender.insist("PUT", f"{path}/parts/{part}", content=piece, headers={"Content-Digest": f"sha-256=:{digest}:"})
    whole = {"sha256": hashlib.sha256(content).hexdigest()}
    return str(sender.insist("POST", f"{path}/complete", json=whole, besides=(_CHANGED,)).json()["id"])


def evaluate(sender: Sender, key: str, name: str, experiment_id: str, dataset_id: str) -> str:
    """Queue one of the evaluations; its id."""
    asked = _EVALUATIONS[name] | ({"data": {"kind": "dataset", "id": dataset_id}} if name == "brought" else {})
    path = f"/v1/experiments/{experiment_id}/evaluations"
    return str(sender.insist("POST", path, json=asked, headers=_key(key)).json()["id"])


def predict(sender: Sender, experiment_id: str) -> Any:
    """The answer; None where there was none in time."""
    path = f"/v1/experiments/{experiment_id}/predictions"
    answer = sender.send("POST", path, json={"inputs": _INPUTS}, besides=(_UNANSWERED,))
    return answer.json() if answer is not None and answer.is_success else None


def undisturbed(sender: Sender, experiment_id: str) -> Undisturbed:
    """Each once, while nobody disturbs; of the best checkpoint of an experiment."""
    dataset_id = bring(sender, "reference-import", -1)
    dataset = _ended(sender, f"/v1/datasets/{dataset_id}")
    ids = {
        name: evaluate(sender, f"reference-{name}", name, experiment_id, dataset_id) for name in sorted(_EVALUATIONS)
    }
    results = {name: _ended(sender, f"/v1/evaluations/{one}")["result"] for name, one in ids.items()}
    answer = None
    while answer is None:
        answer = predict(sender, experiment_id)
    sender.ledger.references.update({dataset_id, *ids.values()})
    return Undisturbed(experiment_id, dataset_id, dataset["sha256"], results, answer)


_EVALUATIONS: dict[str, dict[str, Any]] = {
    "shifted": {"data": {"kind": "digits", "shift": {"kind": "contrast", "severity": 5}}, "statistics": "adabn"},
    "brought": {"part": "train", "statistics": {"kind": "prediction_time", "batch_size": 500}},
}


@functools.cache
def _images() -> bytes:
    random = np.random.default_rng(7)
    file = io.BytesIO()
    inputs = random.integers(0, 256, (_IMAGES, 8, 8), dtype=np.uint8)
    np.savez(file, inputs=inputs, targets=np.arange(_IMAGES) % 10)
    return file.getvalue()


def _source(number: int) -> bytes:
    """An npz of images, whose number only its zip file says."""
    file = io.BytesIO(_images())
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = f"import {number}".encode()
    return file.getvalue()


def _key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": f'"{key}"'}


def _ended(sender: Sender, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        found: dict[str, Any] = sender.insist("GET", path, params={"wait": 2}).json()
        if found["is_terminal"]:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} does not end")
    if found["state"] != "succeeded":
        raise RuntimeError(f"the undisturbed {path} is {found['state']} after {found['attempt']} attempts")
    return found
