"""Seconds from the POST of an experiment to its first number, seen by GET, on a warm stack: `python -m bench.latency`.

Warm means what it means in service: every process is up and one waits to fork trainers. The clock starts before the
request is sent; `first_step` is the trainer's own time of it, `visible` the time of the first answer with a point of
`train/loss`. Where the time goes is told by the lines in between.
"""

import argparse
import secrets
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from time import sleep, time
from typing import Any

import httpx

from store import keys, migrate
from store.jobs import eventlog
from tests.conftest import RedisServer, free_port
from tests.stack import Stack

# Long enough that its end does not help its beginning to be seen.
SPEC: dict[str, Any] = {"train": {"steps": 1000}, "checkpoint": {"every_steps": 1000}}
MARKS = ("answered", "submitted", "claimed", "started", "first_step", "visible")
_POLL_SECONDS = 0.005


def main() -> None:
    """Print the median and the worst, and the median of each mark on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    directory = Path(tempfile.mkdtemp(prefix="bnlab-latency-"))
    broker = RedisServer()
    broker.start()
    try:
        marks = _measure(directory, broker.url, repeats)
    finally:
        broker.stop()
        shutil.rmtree(directory)
    for name in MARKS:
        seconds = [found[name] for found in marks]
        sys.stdout.write(f"{name:12} median {statistics.median(seconds):.3f} s   worst {max(seconds):.3f} s\n")


def _measure(directory: Path, redis_url: str, repeats: int) -> list[dict[str, float]]:
    database_url = f"sqlite:///{directory}/bnlab.db"
    migrate.upgrade(database_url)
    key, port = "bnl_" + secrets.token_urlsafe(32), free_port()
    with Stack(directory, database_url, redis_url, BNLAB_PORT=str(port), BNLAB_HOST="127.0.0.1") as stack:
        with stack.database.write() as session:
            keys.ensure(session, "bench", key)
        stack.start("api")
        stack.start_warm("relay", "worker")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            _await_api(stack, client)
            found = [_once(stack, client) for _ in range(repeats + 1)]
    return found[1:]  # the first request of a process is not warm


def _await_api(stack: Stack, client: httpx.Client) -> None:
    def answers() -> bool:
        try:
            return client.get("/healthz").is_success
        except httpx.TransportError:
            return False

    stack.until("the API answers", answers)


def _once(stack: Stack, client: httpx.Client) -> dict[str, float]:
    began = time()
    answer = client.post("/v1/experiments", json=SPEC).raise_for_status()
    found = {"answered": time() - began}
    experiment_id = answer.json()["id"]
    points = f"/v1/experiments/{experiment_id}/metrics?keys=train/loss"
    while not client.get(points).raise_for_status().json()["series"]["train/loss"]["count"]:
        sleep(_POLL_SECONDS)
    found["visible"] = time() - began
    assert stack.await_state(experiment_id).state == "succeeded"
    with stack.database.read() as session:
        lines = eventlog.page(session, experiment_id)
    at = {line.kind: line.at if line.trainer_at is None else line.trainer_at for line in lines}
    return {name: at[name] - began for name in MARKS if name in at} | found


if __name__ == "__main__":
    main()
