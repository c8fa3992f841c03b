"""Data sets on the whole way: uploaded, imported by a worker, trained on; and whoever is killed on it."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from client import Client
from client import datasets as uploading
from client.errors import ApiError
from store import files, keys
from store.jobs import eventlog
from tests.conftest import free_port
from tests.stack import Stack

ENDS_SECONDS = 90.0


@pytest.fixture(scope="module")
def client(small_stack: Stack) -> Iterator[Client]:
    """Of an API over the stack's database."""
    port = free_port()
    serve(small_stack, port)
    with small_stack.database.write() as session:
        key = keys.create(session, "datasets").secret
    with Client(f"http://127.0.0.1:{port}", key) as found:
        found.port = port  # type: ignore[attr-defined]
        yield found
    small_stack.kill("api")


def serve(stack: Stack, port: int) -> None:
    before = stack.logged("api").count("serving") if stack.log_path("api").exists() else 0
    stack.start("api", BNLAB_PORT=str(port))
    stack.await_log("api", "serving", before + 1)


def write_npz(path: Path, examples: int, seed: int) -> Path:
    """Points around one of three others."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, examples)
    np.savez(path, inputs=(random.normal(size=(examples, 16)) + targets[:, None]).astype(np.float32), targets=targets)
    return path


def ended(client: Client, dataset: dict[str, Any]) -> dict[str, Any]:
    return client.wait_dataset(dataset["id"], ENDS_SECONDS)


def test_a_file_is_brought_in_and_trained_on_from_one_copy_on_the_host(small_stack, client, tmp_path):
    source = write_npz(tmp_path / "points.npz", 600, seed=1)
    dataset = ended(client, client.add_dataset(source, "points"))
    assert dataset["state"] == "succeeded", dataset["failure"]
    assert (dataset["examples"]["train"], dataset["outputs"], dataset["signal"]["shape"]) == (600, 3, [16])
    spec = {"data": {"kind": "dataset", "id": dataset["id"]}, "train": {"steps": 60, "batch_size": 20}}
    experiments = [client.submit({**spec, "name": name}) for name in ("one", "two")]
    results = [client.wait(one["id"], ENDS_SECONDS) for one in experiments]
    assert [one["state"] for one in results] == ["succeeded"] * 2, results
    assert results[0]["summary"]["test_accuracy"] == results[1]["summary"]["test_accuracy"]
    assert small_stack.logged("worker").count("data_fetched") == 1
    runs = Path(small_stack.environment["BNLAB_RUNS_DIR"])
    kept = sorted(path.name for path in (runs / "datasets" / dataset["sha256"]).iterdir())
    assert kept == ["dataset.json", "train-inputs.npy", "train-targets.npy"]
    assert list(runs.glob("dat_*")) == []
    assert client.add_dataset(source, "points")["already_there"]


def test_a_file_that_is_none_is_refused_with_its_reason_and_leaves_nothing(small_stack, client, tmp_path):
    source = tmp_path / "pickle.npz"
    np.savez(source, inputs=np.array([{"a": 1}], dtype=object), targets=np.array([0]))
    dataset = ended(client, client.add_dataset(source, "pickle"))
    assert (dataset["state"], dataset["failure"]["code"]) == ("failed", "invalid_data")
    assert "pickle" in dataset["failure"]["message"].lower() or "object" in dataset["failure"]["message"].lower()
    with small_stack.database.read() as session:
        assert files.of_job(session, dataset["id"]) == []
    with pytest.raises(ApiError, match="upload it anew"):
        client.retry_dataset(dataset["id"])


@pytest.mark.parametrize("victim", ["trainer", pytest.param("worker", marks=pytest.mark.system)])
def test_an_import_whose_process_is_killed_ends_with_the_same_bytes(small_stack, client, tmp_path, victim):
    path = tmp_path / "long.csv"
    random = np.random.default_rng(len(victim))
    rows = np.column_stack([random.normal(size=(40_000, 4)), random.integers(0, 3, 40_000)])
    np.savetxt(path, rows, delimiter=",", fmt=["%.5f"] * 4 + ["%d"], header="a,b,c,d,label", comments="")
    whole = ended(client, client.add_dataset(path, "whole", targets="label"))
    assert whole["state"] == "succeeded", whole["failure"]
    # Said otherwise, so that it is another data set of the same content.
    dataset = client.add_dataset(path, "killed", targets="label", format="csv")
    assert not dataset.get("already_there")

    def trainer() -> int | None:
        lines = [line for line in small_stack.log("worker") if line.get("dataset_id") == dataset["id"]]
        return next((line["pid"] for line in lines if line["event"] == "working"), None)

    small_stack.until("the import works", lambda: trainer() is not None)
    pid = trainer()
    assert pid is not None
    if victim == "trainer":
        os.kill(pid, signal.SIGKILL)
    else:
        small_stack.kill("worker")
        small_stack.until("its trainer is gone", lambda: not psutil.pid_exists(pid))
        small_stack.start_warm("worker")
    found = ended(client, dataset)
    assert (found["state"], found["sha256"]) == ("succeeded", whole["sha256"]), found["failure"]
    with small_stack.database.read() as session:
        attempts = {line.attempt for line in eventlog.page(session, dataset["id"]) if line.kind == "claimed"}
        names = [file.name for file in files.of_job(session, dataset["id"])]
    assert attempts == {1, 2}
    assert sorted(names) == ["dataset.json", "report.json", "train-inputs.npy", "train-targets.npy"]


def test_an_upload_goes_on_where_it_was_when_the_api_was_killed(small_stack, client, tmp_path, monkeypatch):
    monkeypatch.setattr(uploading, "PART_BYTES", 200_000)
    source = write_npz(tmp_path / "large.npz", 20_000, seed=3)
    killed = threading.Event()
    sent: list[int] = []

    def on_progress(done: int, of: int) -> None:
        sent.append(done)
        if done >= of // 2 and not killed.is_set():
            killed.set()
            small_stack.kill("api")
            small_stack.start("api", BNLAB_PORT=str(client.port))

    dataset = ended(client, client.add_dataset(source, "large", on_progress=on_progress))
    assert killed.is_set()
    assert (dataset["state"], dataset["examples"]) == ("succeeded", {"train": 20_000})
    assert sent == sorted(sent)


def test_the_same_call_after_a_cut_sends_what_is_missing(client, tmp_path, monkeypatch):
    monkeypatch.setattr(uploading, "PART_BYTES", 100_000)
    source = write_npz(tmp_path / "cut.npz", 9_000, seed=4)

    def cut(done: int, of: int) -> None:
        if done > of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.add_dataset(source, "cut", on_progress=cut)
    (waiting,) = client.datasets(state="uploading")
    there = client.dataset(waiting["id"])["upload"]["data"]
    put: list[str] = []
    request = client._transport.request

    def noted(method: str, path: str, **options: Any) -> Any:
        put.extend([path] if method == "PUT" else [])
        return request(method, path, **options)

    monkeypatch.setattr(client._transport, "request", noted)
    dataset = ended(client, client.add_dataset(source, "cut"))
    assert (dataset["id"], dataset["state"]) == (waiting["id"], "succeeded")
    size = source.stat().st_size
    assert len(there) + len(put) == -(-size // 100_000)
    assert len(there) > 0
