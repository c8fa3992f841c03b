"""Trouble around the service, made and ended: a database that lets nobody write, and the process itself."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


@contextmanager
def writer_that_stands_still(sqlite_url: str) -> Iterator[None]:
    """Somebody holds the write lock and does nothing."""
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


class ApiProcess:
    """`python -m api`, and what it says; all of its processes listen when it is made."""

    def __init__(self, running: subprocess.Popen[bytes], processes: int) -> None:
        self.running = running
        self.lines: list[dict[str, Any]] = []
        self.serving = [self.await_serving() for _ in range(processes)]
        """Their process ids."""

    def await_serving(self) -> int:
        """The id of the next process that says that it serves."""
        line = next(line for line in self.logged() if line["event"] == "serving")
        host, self.port = line["sockets"][0]
        self.url = f"http://{host}:{self.port}"
        return int(line["pid"])

    def logged(self) -> Iterator[dict[str, Any]]:
        """The lines to come, which `lines` keeps."""
        assert self.running.stderr is not None
        for text in self.running.stderr:
            self.lines.append(json.loads(text))
            yield self.lines[-1]


@contextmanager
def api_process(database_url: str, *, open_files: int | None = None, **environment: str) -> Iterator[ApiProcess]:
    """The service as a process of its own, killed at the end if it still runs."""
    variables = {**os.environ, "BNLAB_DATABASE_URL": database_url, "BNLAB_PORT": "0", **environment}
    command = [sys.executable, "-m", "api"]
    if open_files is not None:
        command = ["/bin/sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh", *command]
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            yield ApiProcess(running, int(environment.get("BNLAB_API_PROCESSES", 1)))
        finally:
            running.kill()
