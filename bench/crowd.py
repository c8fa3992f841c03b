"""A crowd at one API process: `python -m bench.crowd`. What it answers, how long `/healthz` takes, and its memory.

500 clients that GET one experiment after another, 300 that wait for a change, 50 that download a checkpoint of 8 MB
again and again; with `--posts N` so many more that submit one experiment after another. Wanted on two cores: no answer
of 5xx, `/healthz` within half a second for 99 of 100, below 250 MB.
"""

import argparse
import asyncio
import collections
import contextlib
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.service import SPEC, Service, running_service
from bncore.events import CheckpointSaved, StoredFile
from store import checkpoints, files, work
from store.database import Database
from store.jobs import leases

CLIENTS = {"get": 500, "wait": 300, "download": 50, "healthz": 1}
CHECKPOINT_BYTES = 8 << 20
_LEASE_SECONDS = 600.0


def main() -> None:
    """Print what was answered, and the figures of `/healthz` and of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; SQLite without it")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--posts", type=int, default=0, help="so many clients that submit")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-crowd-"))
    url = arguments.database_url or f"sqlite:///{directory}/bnlab.db"
    try:
        with running_service(directory, url) as service:
            content = _store_checkpoint(url)
            crowd = _Crowd(service, content, CLIENTS | {"post": arguments.posts})
            asyncio.run(crowd.come(arguments.seconds))
            crowd.print(service.process)
    finally:
        shutil.rmtree(directory)


class _Crowd:
    def __init__(self, service: Service, content: str, clients: dict[str, int]) -> None:
        self._service = service
        self._clients = clients
        one = content.partition("/checkpoints")[0]
        paths = {"get": one, "wait": f"{one}/results?wait=20", "download": content, "healthz": "/healthz"}
        self._requests = {name: service.request("GET", path) for name, path in paths.items()}
        self._requests["post"] = service.request("POST", "/v1/experiments", json.dumps(SPEC).encode())
        self._taken: dict[str, list[float]] = collections.defaultdict(list)
        self._statuses: collections.Counter[tuple[str, str]] = collections.Counter()
        self._most_memory = 0

    async def come(self, seconds: float) -> None:
        tasks = [asyncio.create_task(self._client(name)) for name, count in self._clients.items() for _ in range(count)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            self._most_memory = max(self._most_memory, self._service.process.memory_info().rss)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def print(self, process: psutil.Process) -> None:
        for (name, status), count in sorted(self._statuses.items()):
            taken = self._taken[name]
            percentiles = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
            sys.stdout.write(
                f"{name:10} {status}  {count:7} times   median {percentiles[49]:.3f} s"
                f"   p99 {percentiles[98]:.3f} s   worst {max(taken):.3f} s\n"
            )
        sys.stdout.write(f"memory     {self._most_memory / 1e6:.0f} MB at most, {process.num_threads()} threads\n")

    async def _client(self, name: str) -> None:
        while True:
            began = time.monotonic()
            try:
                status = await self._ask(self._requests[name])
            except (OSError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
            self._taken[name].append(time.monotonic() - began)
            self._statuses[name, status] += 1
            await asyncio.sleep(0.05 if name == "healthz" else 0.0)

    async def _ask(self, request: bytes) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
        with contextlib.closing(writer):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            left = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            while left:
                piece = await reader.read(1 << 16)
                if not piece:
                    return "broken off"
                left -= len(piece)
            return head.split(b" ", 2)[1].decode()


def _store_checkpoint(database_url: str) -> str:
    """The address of a file, of an experiment that runs."""
    weights = bytes(CHECKPOINT_BYTES)
    file = StoredFile(file="x.safetensors", size=len(weights), sha256=hashlib.sha256(weights).hexdigest())
    event = CheckpointSaved(checkpoint_kind="best", step=1, epoch=1, metrics={}, weights=file, state=None)
    database = Database(database_url)
    worker = leases.Worker("prc_bench", "cpu", "some model", "2.13.0")
    with database.write() as session:
        claim = work.take(session, worker, leases.Terms(_LEASE_SECONDS), leases.new_token())
    assert claim is not None
    with database.write() as session:
        begun = checkpoints.begin(session, claim.lease, event)
    assert begun is not None
    for seq, start in enumerate(range(0, len(weights), files.CHUNK_BYTES)):
        chunk = weights[start : start + files.CHUNK_BYTES]
        with database.write() as session:
            files.write_chunk(session, claim.lease, begun.files["weights"].file_id, seq, chunk)
    with database.write() as session:
        checkpoints.complete(session, claim.lease, begun.id, {"weights": file.sha256})
    database.dispose()
    return f"/v1/experiments/{claim.lease.job_id}/checkpoints/{begun.id}/content"


if __name__ == "__main__":
    main()
