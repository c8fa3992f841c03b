"""`bnlab demo`: three real experiments through the whole service, and nothing left behind.

The network is the MLP of Ioffe & Szegedy 2015 (arXiv 1502.03167, section 4.1) on scikit-learn's digits: three hidden
layers of 100 sigmoid units, batches of 60. The three differ in their normalization alone.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.commands.connection import AsJson
from client.commands.outcome import Exit, leave, reported
from client.commands.output import bars, emit, inline, message, show, table, tell
from client.commands.stack_outcome import Workers, stack_reported
from client.demo import ARMS, read_spec
from client.errors import Json
from client.http import Client
from client.local.capacity import default_workers
from client.local.interrupts import interruptible
from client.local.places import Places
from client.local.stack import Stack, StackSettings, running

FETCHED = "batch_norm"
TIMEOUT_SECONDS = 600.0
GRACE_SECONDS = 10.0
COLUMNS = {
    "normalization": "norm",
    "state": "state",
    "test_accuracy": "accuracy",
    "best_test_accuracy": "best",
    "steps_to_target": "steps to 90 %",
    "seconds": "seconds",
    "checkpoint_bytes": "bytes",
}


@reported
@stack_reported
def demo(workers: Workers = None, as_json: AsJson = False) -> None:
    """Start the service in a temporary directory, train three networks through it, and clean up.

    The same MLP without normalization, with batch norm and with batch renorm, on scikit-learn's digits, same seed.

    Example: bnlab demo --json
    """
    began = time.monotonic()
    workers = workers or min(len(ARMS), default_workers("auto"))
    with _stack(workers) as (stack, directory), Client(stack.url, stack.api_key) as client:
        tell(f"Ready at {stack.url} after {time.monotonic() - began:.1f} s. Three experiments:")
        results = _train(client, shown=not as_json)
        rows = [_row(arm, results[arm]) for arm in ARMS]
        succeeded = all(row["state"] == "succeeded" for row in rows)
        fetched = _fetch(client, results[FETCHED], directory) if succeeded else None
    answer = {"experiments": rows, "download": fetched, "seconds": round(time.monotonic() - began, 1)}
    if as_json:
        emit(answer)
    else:
        _print(answer)
    if not succeeded:
        leave(Exit.ENDED_BADLY, "not every experiment succeeded")


@contextmanager
def _stack(workers: int) -> Iterator[tuple[Stack, Path]]:
    with (
        tempfile.TemporaryDirectory(prefix="bnlab-demo-", ignore_cleanup_errors=True) as directory,
        interruptible() as interrupts,
    ):
        data_dir = Path(directory).resolve()
        settings = StackSettings(Places(data_dir), workers=workers, grace_seconds=GRACE_SECONDS, notice=tell)
        with running(settings, interrupts) as stack:
            yield stack, data_dir


def _train(client: Client, *, shown: bool) -> dict[str, Json]:
    submitted = {arm: client.submit(read_spec(arm)) for arm in ARMS}
    with bars(shown=shown) as moving:
        for arm, experiment in submitted.items():
            moving.add(experiment, label=arm)
        return {arm: client.wait(submitted[arm]["id"], TIMEOUT_SECONDS, moving.update) for arm in ARMS}


def _row(arm: str, results: Json) -> Json:
    checkpoints = results["checkpoints"]
    known = ("test_accuracy", "best_test_accuracy", "steps_to_target", "seconds")
    return {
        "normalization": arm,
        "id": results["id"],
        "state": results["state"],
        **{key: results["summary"].get(key) for key in known},
        "checkpoint_bytes": checkpoints[0]["size"] if checkpoints else None,
        "failure": results.get("failure"),
    }


def _fetch(client: Client, results: Json, directory: Path) -> Json:
    """Download one checkpoint; that its size and sha256 are right is part of downloading."""
    checkpoint = next(entry for entry in results["checkpoints"] if entry["kind"] == "best")
    path = client.download(results["id"], checkpoint, directory)
    return {"normalization": FETCHED, "file": path.name, "size": checkpoint["size"], "sha256": checkpoint["sha256"]}


def _print(answer: dict[str, Any]) -> None:
    rows = [[row[key] for key in COLUMNS] for row in answer["experiments"]]
    show(table(COLUMNS.values(), rows))
    for row in answer["experiments"]:
        if row["failure"]:
            show(f"{row['normalization']}: {inline(row['failure']['code'])}: {message(row['failure']['message'])}")
    fetched = answer["download"]
    if fetched:
        show(
            f"Downloaded {fetched['file']} ({fetched['size']:,} bytes), sha256 {fetched['sha256']} is right.",
            soft_wrap=True,
        )
    show(f"{answer['seconds']} seconds in all; everything is stopped and removed.")
