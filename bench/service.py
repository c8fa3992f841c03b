"""What a request costs the API process, at 1 and at 8 clients: `python -m bench.service`.

CPU time of the process over the number of requests it answered, on a SQLite or PostgreSQL database with a hundred
experiments in it. Clients are threads of this process, which write bytes to a socket and look at nothing but the
status; their own time is not counted. Figures mean something on idle cores only.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

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
            for clients in (1, 8):
                for name in TARGET_MS:
                    _print(name, clients, *service.measure(name, clients, arguments.seconds))
    finally:
        shutil.rmtree(directory)


def _print(name: str, clients: int, cpu_ms: float, per_second: float, worst_ms: float) -> None:
    ratio = cpu_ms / TARGET_MS[name]
    sys.stdout.write(
        f"{name:8} {clients} clients   CPU {cpu_ms:6.2f} ms a request, {ratio:5.2f} of its target"
        f"   {per_second:7.0f} requests/s   worst {worst_ms:7.1f} ms\n"
    )


class Service:
    """A running API process and the requests to try on it."""

    def __init__(self, port: int, process: psutil.Process, key: str, experiment_id: str) -> None:
        self.port = port
        self.process = process
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

    def measure(self, name: str, clients: int, seconds: float) -> tuple[float, float, float]:
        """CPU milliseconds a request, requests a second, and the longest that one took in milliseconds."""
        self._run(name, clients, min(1.0, seconds))  # a process that has just started compiles its statements first
        before, began = self._cpu_seconds(), time.perf_counter()
        taken = self._run(name, clients, seconds)
        elapsed = time.perf_counter() - began
        return (self._cpu_seconds() - before) * 1000 / len(taken), len(taken) / elapsed, max(taken) * 1000

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request that has a key."""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    def _run(self, name: str, clients: int, seconds: float) -> list[float]:
        taken: list[float] = []
        until = time.perf_counter() + seconds
        threads = [
            threading.Thread(target=self._client, args=(self._requests[name], until, taken)) for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return taken

    def _client(self, request: bytes, until: float, taken: list[float]) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            while (began := time.perf_counter()) < until:
                connection.sendall(request)
                _read_answer(connection)
                taken.append(time.perf_counter() - began)

    def _cpu_seconds(self) -> float:
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


def _read_answer(connection: socket.socket) -> None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 20)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] in (b"200", b"202"), head
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(1 << 20)


@contextmanager
def running_service(directory: Path, database_url: str) -> Iterator[Service]:
    """A process of its own over an empty database, which gets a hundred experiments."""
    migrate.upgrade(database_url)
    database, key = Database(database_url), "bnl_" + secrets.token_urlsafe(32)
    submission = Submission.of(load_spec(SPEC))
    with database.write() as session:
        keys.ensure(session, "bench", key)
        made = [experiments.submit(session, submission, owner=DEFAULT_OWNER, device="cpu").id for _ in range(100)]
    database.dispose()
    port = free_port()
    environment = {**os.environ, "BNLAB_DATABASE_URL": database_url, "BNLAB_PORT": str(port)}
    # What is measured is not how soon it says that this is too much.
    environment["BNLAB_REQUESTS_PER_SECOND"] = "0"
    with (directory / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=log)
    try:
        _await(lambda: _listens(port))
        yield Service(port, psutil.Process(process.pid), key, made[50])
    finally:
        process.terminate()
        process.wait(30)


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "the service does not listen"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
