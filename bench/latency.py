"""Seconds from the POST of an experiment to its first training step, on a warm stack: `python -m bench.latency`.

Warm means what it means in service: every process is up and a trainer waits. The clock starts before the request is
sent and stops at the trainer's own time of its first step. Where the time goes is told by the lines in between.
"""

import argparse
import secrets
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from time import time
from typing import Any

import httpx

from store import eventlog, keys, migrate
from tests.conftest import RedisServer, free_port
from tests.stack import Stack

SPEC: dict[str, Any] = {"train": {"steps": 20}, "checkpoint": {"every_steps": 20}}
MARKS = ("answered", "submitted", "claimed", "started", "first_step")


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
            found = [_once(stack, client, turn) for turn in range(repeats + 1)]
    return found[1:]  # the first request of a process is not warm


def _await_api(stack: Stack, client: httpx.Client) -> None:
    def answers() -> bool:
        try:
            return client.get("/healthz").is_success
        except httpx.TransportError:
            return False

    stack.until("the API answers", answers)


def _once(stack: Stack, client: httpx.Client, turn: int) -> dict[str, float]:
    stack.await_log("worker", "trainer_ready", count=turn + 1)
    began = time()
    answer = client.post("/v1/experiments", json=SPEC).raise_for_status()
    found = {"answered": time() - began}
    experiment_id = answer.json()["id"]
    assert stack.await_state(experiment_id).state == "succeeded"
    with stack.database.read() as session:
        lines = eventlog.page(session, experiment_id)
    at = {line.kind: line.at if line.trainer_at is None else line.trainer_at for line in lines}
    return {**found, **{name: at[name] - began for name in MARKS[1:]}}


if __name__ == "__main__":
    main()
