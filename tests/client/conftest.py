"""A real stack, started by `bnlab up`, and a way to find every process that belongs to one.

Invariant: whatever a test starts here is gone after it, the failing test included; a leftover fails the test.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from client import Client
from client.cli import app

START_SECONDS = 60.0
END_SECONDS = 30.0


@dataclass
class Bnlab:
    """A `bnlab` process whose stack lives in `place`."""

    place: Path
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.facts["url"]

    @property
    def api_key(self) -> str:
        return Path(self.facts["api_key_file"]).read_text().strip()

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.api_key, **options)

    def wait_ready(self) -> "Bnlab":
        """Read the one line that `bnlab up --json` prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"bnlab up ended with {self.process.wait()}"
        self.facts = json.loads(line)
        return self

    def wait_told(self, words: str) -> None:
        """Wait until these words are on its standard error."""
        deadline = time.monotonic() + START_SECONDS
        while words not in (told := (self.place / "stderr").read_text()):
            assert self.process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.02)

    def child(self, *words: str) -> psutil.Process:
        """Wait for the process below this one whose command line holds all these words."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for found in belonging_to(self.place):
                if set(words) <= set(_command(found)):
                    return found
            time.sleep(0.02)
        raise AssertionError(f"no process {words} within {START_SECONDS:g} seconds")

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(timeout=END_SECONDS)

    def assert_nothing_left(self) -> None:
        """Every process of the stack goes by itself, soon, and starts no other."""
        _, alive = psutil.wait_procs(belonging_to(self.place), timeout=END_SECONDS)
        assert [_command(process) for process in alive] == []
        assert [_command(process) for process in belonging_to(self.place)] == []


@pytest.fixture(scope="package")
def run_bnlab() -> Iterator[Callable[..., Bnlab]]:
    """Start `bnlab` with some arguments; its standard output can be read line by line."""
    started: list[Bnlab] = []

    def run(place: Path, *arguments: str, cwd: Path | None = None, stderr: int | None = None) -> Bnlab:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("BNLAB_")}
        environment |= {"TMPDIR": str(place), "COLUMNS": "200"}
        with (place / "stderr").open("a") as told:
            process = subprocess.Popen(
                # -P: as the installed `bnlab`, it does not have the current folder in its path.
                [sys.executable, "-P", "-m", "client.cli", *arguments],
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=told if stderr is None else stderr,
                env=environment,
                text=True,
                start_new_session=True,
            )
        started.append(Bnlab(place, process))
        return started[-1]

    yield run
    for bnlab in started:
        for process in belonging_to(bnlab.place):
            # One that was killed before may have taken it along.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        bnlab.process.kill()
        bnlab.process.wait()
        assert bnlab.process.stdout is not None
        bnlab.process.stdout.close()


@pytest.fixture
def bnlab(run_bnlab: Callable[..., Bnlab], tmp_path: Path) -> Callable[..., Bnlab]:
    """`bnlab` for this test alone, everything of it under `tmp_path`."""
    return lambda *arguments, **options: run_bnlab(tmp_path, *arguments, **options)


@pytest.fixture(scope="package")
def stack(run_bnlab: Callable[..., Bnlab], tmp_path_factory: pytest.TempPathFactory) -> Bnlab:
    """A stack that the tests of this package share; no test may stop it, or wait for an empty list."""
    place = tmp_path_factory.mktemp("stack")
    # As `mkdir data` would have made it, with a file of an earlier version in it.
    data = place / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "bnlab.sqlite3").touch(0o644)
    arguments = ("up", "--json", "--device", "cpu", "--port", "0", "--workers", "2", "--data-dir", str(data))
    return run_bnlab(place, *arguments).wait_ready()


@pytest.fixture
def client(stack: Bnlab) -> Iterator[Client]:
    """A client of the shared stack."""
    with stack.client() as client:
        yield client


@pytest.fixture(scope="package")
def observed(stack: Bnlab) -> list[dict[str, Any]]:
    """All results that waiting for a small experiment on the shared stack reported."""
    seen: list[dict[str, Any]] = []
    with stack.client() as client:
        spec = small_spec() | {"name": "finished", "tags": {"suite": "client", "part": "shared"}}
        client.wait(client.submit(spec)["id"], timeout_seconds=60, on_progress=seen.append)
    return seen


@pytest.fixture(scope="package")
def finished(observed: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of that experiment."""
    return observed[-1]


@pytest.fixture
def spec() -> dict[str, Any]:
    """An experiment of a fraction of a second."""
    return small_spec()


@pytest.fixture
def idle_spec() -> dict[str, Any]:
    """An experiment that stays queued: it is for a device that the stack has not."""
    return small_spec() | {"resources": {"device": "cuda"}}


@pytest.fixture
def long_spec() -> dict[str, Any]:
    """An experiment that does not end while a test runs, but ends when asked."""
    return small_spec() | {"name": "long", "train": {"steps": 10_000_000}, "checkpoint": {"every_steps": 1_000_000}}


@pytest.fixture
def cli(stack: Bnlab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a `bnlab` command in this process against the shared stack."""
    monkeypatch.setenv("BNLAB_URL", stack.url)
    monkeypatch.setenv("BNLAB_API_KEY", stack.api_key)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, [*arguments], **options)

    return run


def small_spec() -> dict[str, Any]:
    return {"network": {"kind": "mlp", "hidden": [16]}, "train": {"steps": 120}, "evaluation": {"every_steps": 40}}


def belonging_to(place: Path) -> list[psutil.Process]:
    """The processes with something under `place` in their environment, command line or working directory."""
    mine = os.getpid()
    return [process for process in psutil.process_iter() if process.pid != mine and _belongs(process, str(place))]


def _belongs(process: psutil.Process, place: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
        named = [
            environment.get("BNLAB_DATA_DIR", ""),
            environment.get("TMPDIR", ""),
            process.cwd(),
            *process.cmdline(),
        ]
    except psutil.Error:
        return False
    return any(name == place or name.startswith(f"{place}/") for name in named)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
