"""Real processes of the service for tests: start, stop, kill, pause, and wait for what they say and store.

Invariant: every wait has a deadline and says what it saw when that passes; no process outlives its stack, since each
holds a pipe from it and is killed at the end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil

from bncore.spec import load_spec
from store import checkpoints, experiments, recordings, results
from store.database import Database
from store.experiments import Submission
from store.jobs import eventlog, wishes
from store.jobs.states import TERMINAL
from store.jobs.wishes import By
from store.tables import Checkpoint, Experiment

MODULES = {"api": "api", "relay": "worker.relay", "worker": "worker"}
_POLL_SECONDS = 0.02
# A process that imports torch is ready within four seconds; on a core that twenty others want, within eighty.
_ENOUGH_SECONDS = 180.0
_LOG_TAIL = 4000


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (Linux): before its first line one ends it as the kernel does."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def has_ended(pid: int) -> bool:
    """Also where nobody buries it: who adopts an orphan need not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Stack:
    """Processes by name over one database and one broker; `worker`, `worker-2`, ... are all `python -m worker`."""

    def __init__(self, directory: Path, database_url: str, redis_url: str, **environment: str) -> None:
        self.directory = directory
        self.database = Database(database_url)
        self.environment = {
            "BNLAB_DATABASE_URL": database_url,
            "BNLAB_REDIS_URL": redis_url,
            "BNLAB_RUNS_DIR": str(directory / "runs"),
            "BNLAB_DEVICE": "cpu",
            "BNLAB_LOG_FORMAT": "json",
            "BNLAB_EXIT_ON_EOF": "1",
            **environment,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes.values():
            process.kill()
        for name in self._processes:
            self._bury(name)
        self.database.dispose()

    def start(self, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process, in place of one of that name that has ended; its log is `<directory>/<name>.log`."""
        module = MODULES[name.partition("-")[0]]
        if name in self._processes:
            self._bury(name)
        with self.log_path(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
                cwd=self.directory,
            )
        return self._processes[name]

    def start_warm(self, *names: str, **environment: str) -> None:
        """Start processes and wait until each says it has started, and a worker's trainer waits for work."""
        wanted = {}
        for name in names:
            event = "trainer_ready" if name.startswith("worker") else "started"
            wanted[name] = (event, 1 + (self.logged(name).count(event) if self.log_path(name).exists() else 0))
            self.start(name, **environment)
        for name, (event, count) in wanted.items():
            self.await_log(name, event, count)

    def terminate(self, name: str, seconds: float = _ENOUGH_SECONDS) -> int:
        """SIGTERM, and the exit code."""
        self._processes[name].terminate()
        return self._processes[name].wait(seconds)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def wait(self, name: str, seconds: float = _ENOUGH_SECONDS) -> int:
        """The exit code, once the process has ended."""
        return self._processes[name].wait(seconds)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        self._processes[name].kill()
        self._processes[name].wait()

    def close_stdin(self, name: str, seconds: float = _ENOUGH_SECONDS) -> int:
        """What the death of the parent would do; the exit code."""
        stdin = self._processes[name].stdin
        assert stdin is not None
        stdin.close()
        return self._processes[name].wait(seconds)

    def pause(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def trainers(self, name: str) -> list[psutil.Process]:
        """The trainer processes of a worker: the one that trains and the one that waits."""
        return psutil.Process(self.pid(name)).children()

    def submit(self, spec: dict[str, Any], device: str = "cpu") -> str:
        """Queue an experiment as the API would; its id."""
        with self.database.write() as session:
            return experiments.submit(session, Submission.of(load_spec(spec)), owner="own_tests", device=device).id

    def cancel(self, experiment_id: str) -> None:
        with self.database.write() as session:
            wishes.ask(session, experiment_id, "cancel", By(None))

    def experiment(self, experiment_id: str) -> Experiment:
        with self.database.read() as session:
            return experiments.get(session, experiment_id)

    def events(self, experiment_id: str) -> list[tuple[int, str]]:
        """Attempt and kind of every line of the experiment's log."""
        with self.database.read() as session:
            return [(line.attempt, line.kind) for line in eventlog.page(session, experiment_id, limit=10_000)]

    def series(self, experiment_id: str) -> dict[str, tuple[list[int], np.ndarray]]:
        """Steps and values of every key but those of the system, which differ from run to run."""
        with self.database.read() as session:
            found = results.series(session, experiment_id)
        return {
            key: (one.steps.tolist(), one.values)
            for key, one in found.items()
            if not key.startswith(("system/", "diagnostics/seconds"))
        }

    def recordings(self, experiment_id: str) -> list[tuple[str, str]]:
        """Name and digest of every file of a diagnostic."""
        with self.database.read() as session:
            return [(row.name, row.sha256) for row in recordings.listed(session, experiment_id)]

    def checkpoint(self, experiment_id: str, kind: str = "last") -> Checkpoint:
        """The newest checkpoint of a kind."""
        with self.database.read() as session:
            return next(found for found in checkpoints.listed(session, experiment_id) if found.kind == kind)

    def content(self, checkpoint: Checkpoint, part: checkpoints.Part = "weights") -> bytes:
        return b"".join(checkpoints.read(self.database, checkpoint.id, part))

    def until(self, what: str, true: Callable[[], bool], seconds: float = _ENOUGH_SECONDS) -> None:
        """Wait until it is so; fail with the logs when it is not in time."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self._log_tails()}"
            time.sleep(_POLL_SECONDS)

    def await_state(self, experiment_id: str, *states: str, seconds: float = _ENOUGH_SECONDS) -> Experiment:
        """Wait for one of the states, or for any terminal one when none is named."""
        wanted = states or tuple(TERMINAL)
        self.until(f"{experiment_id} {wanted}", lambda: self.experiment(experiment_id).state in wanted, seconds)
        return self.experiment(experiment_id)

    def await_step(self, experiment_id: str, step: int, *, attempt: int = 1, seconds: float = _ENOUGH_SECONDS) -> None:
        """Wait until an attempt is at work and metrics up to that step are stored."""

        def reached() -> bool:
            row = self.experiment(experiment_id)
            assert row.state not in TERMINAL, f"already {row.state} at step {row.step}\n{self._log_tails()}"
            return row.state == "running" and row.attempt >= attempt and row.step >= step

        self.until(f"{experiment_id} at step {step}", reached, seconds)

    def log(self, name: str) -> list[dict[str, Any]]:
        """The structured lines a process has written."""
        lines = self.log_path(name).read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def await_log(self, name: str, event: str, count: int = 1, seconds: float = _ENOUGH_SECONDS) -> None:
        """Wait until a process has logged an event that many times."""
        self.until(f"{name} logs {event}", lambda: self.logged(name).count(event) >= count, seconds)

    def logged(self, name: str) -> list[str]:
        return [line["event"] for line in self.log(name)]

    def log_path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _bury(self, name: str) -> None:
        process = self._processes[name]
        process.wait(_ENOUGH_SECONDS)
        assert process.stdin is not None
        process.stdin.close()

    def _log_tails(self) -> str:
        tails: Iterable[str] = (
            f"--- {name}\n{self.log_path(name).read_text(errors='replace')[-_LOG_TAIL:]}" for name in self._processes
        )
        return "\n".join(tails)
