"""What a request costs the API process, at 1 and at 8 clients: `python -m bench.service`.

CPU time of the process over the number of requests it answered, on a SQLite or PostgreSQL database with a hundred
experiments in it. Clients are threads of this process; their own time is not counted. Figures mean something on idle
cores only.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench import clients
from bench.clients import Question, ask_again_and_again
from bncore.spec import load_spec
from store import experiments, keys, migrate
from store.database import Database
from store.experiments import Submission
from store.owners import DEFAULT_OWNER
from tests.conftest import free_port

TARGET_MS = {"healthz": 0.5, "create": 3.0, "get": 1.2, "list": 2.5, "results": 2.5}
"""CPU milliseconds a request, of issue 7; /healthz is what it was before."""

SPEC = {
    "name": "bench",
    "tags": {"paper": "1702.03275"},
    "network": {"kind": "mlp", "hidden": [100, 100, 100], "norm": {"kind": "batch_renorm"}},
    "train": {"steps": 2000},
}


def main() -> None:
    """Print a line for each kind of request and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; SQLite without it")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-service-"))
    try:
        with running_service(directory, arguments.database_url or f"sqlite:///{directory}/bnlab.db") as service:
            for count in (1, 8):
                for name in TARGET_MS:
                    _print(name, count, *service.measure(name, count, arguments.seconds))
    finally:
        shutil.rmtree(directory)


def _print(name: str, count: int, cpu_ms: float, per_second: float, worst_ms: float) -> None:
    ratio = cpu_ms / TARGET_MS[name]
    sys.stdout.write(
        f"{name:8} {count} clients   CPU {cpu_ms:6.2f} ms a request, {ratio:5.2f} of its target"
        f"   {per_second:7.0f} requests/s   worst {worst_ms:7.1f} ms\n"
    )


class Service:
    """A running API process and the requests to try on it."""

    def __init__(self, port: int, process: psutil.Process, key: str, experiment_id: str) -> None:
        self.port = port
        self.process = process
        self.experiment_id = experiment_id
        self._key = key
        body = json.dumps(SPEC).encode()
        one = f"/v1/experiments/{experiment_id}"
        self._requests = {
            "healthz": self.request("GET", "/healthz"),
            "create": self.request("POST", "/v1/experiments", body),
            "get": self.request("GET", one),
            "list": self.request("GET", "/v1/experiments"),
            "results": self.request("GET", f"{one}/results"),
        }

    def measure(self, name: str, count: int, seconds: float) -> tuple[float, float, float]:
        """CPU milliseconds a request, requests a second, and the longest that one took in milliseconds."""
        question = Question(self._requests[name])
        # A process that has just started compiles its statements first.
        ask_again_and_again(self.port, question, count, min(1.0, seconds))
        before, began = self._cpu_seconds(), time.perf_counter()
        taken = ask_again_and_again(self.port, question, count, seconds)
        elapsed = time.perf_counter() - began
        return (self._cpu_seconds() - before) * 1000 / len(taken), len(taken) / elapsed, max(taken) * 1000

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request that has a key."""
        return clients.request(self.port, method, path, body, f"Authorization: Bearer {self._key}\r\n")

    def _cpu_seconds(self) -> float:
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def running_service(directory: Path, database_url: str, processes: int = 1) -> Iterator[Service]:
    """The API over an empty database, which gets a hundred experiments."""
    migrate.upgrade(database_url)
    database, key = Database(database_url), "bnl_" + secrets.token_urlsafe(32)
    submission = Submission.of(load_spec(SPEC))
    with database.write() as session:
        keys.ensure(session, "bench", key)
        made = [experiments.submit(session, submission, owner=DEFAULT_OWNER, device="cpu").id for _ in range(100)]
    database.dispose()
    port, log_file = free_port(), directory / "api.log"
    environment = {**os.environ, "BNLAB_DATABASE_URL": database_url, "BNLAB_PORT": str(port)}
    environment["BNLAB_API_PROCESSES"] = str(processes)
    # What is measured is not how soon it says that this is too much.
    environment |= {"BNLAB_REQUESTS_PER_SECOND": "0", "BNLAB_QUEUED_PER_OWNER": "1000000"}
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=log)
    try:
        await_lines(log_file, b'"serving"', processes)
        yield Service(port, psutil.Process(process.pid), key, made[50])
    finally:
        process.terminate()
        process.wait(30)


def await_lines(log: Path, line: bytes, count: int, seconds: float = 60.0) -> None:
    """Wait until a server that was started has said so in each of its processes."""
    deadline = time.monotonic() + seconds
    while log.read_bytes().count(line) < count:
        assert time.monotonic() < deadline, f"it does not serve:\n{log.read_text()[-4000:]}"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
