"""The process that trains: `python -m bncore --wait`, started ahead of need and used for one attempt.

Invariant: the only write end of its standard input is in this process, so that it ends with us however we die. It has
a session of its own: signals meant for the worker do not reach it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger()

_READY = b"ready\n"
_LAST_WORDS_SECONDS = 2.0
_CLOSE_SECONDS = 5.0


class TrainerGone(Exception):
    """The process ended before it was given anything to train."""


class TrainerProcess:
    """One trainer; `on_end` is called, from another thread, as soon as it has ended."""

    def __init__(self, waiting_log: Path, device: str, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._log = waiting_log
        self._ready = threading.Event()
        self._ended = threading.Event()
        waiting_log.parent.mkdir(parents=True, exist_ok=True)
        self._log_file = waiting_log.open("ab", buffering=0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bncore", "--wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env=_environment(device),
            start_new_session=True,
            close_fds=True,
        )
        self._pump = threading.Thread(target=self._keep_output, name="trainer-output", daemon=True)
        self._pump.start()
        threading.Thread(target=self._await_end, name="trainer-end", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, as `subprocess` says it; None while it lives."""
        return self._process.returncode if self._ended.is_set() else None

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def was_ready(self) -> bool:
        """Whether it had warmed up; one that had not and ended cannot train anything."""
        return self._ready.is_set()

    def train(self, run_directory: Path, log_path: Path) -> None:
        """Hand over a run directory; its log goes on in `log_path`. Raises `TrainerGone`."""
        assert self._process.stdin is not None
        self._log = self._log.rename(log_path)
        try:
            self._process.stdin.write(f"{run_directory}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise TrainerGone from error

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its children now."""
        if not self._ended.is_set():
            _kill_group(self._process.pid)

    def await_end(self, seconds: float) -> bool:
        """Wait that long for its end; whether it came."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        """End it by the end of its standard input, and by force if that is not enough."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            log.debug("trainer_gone_before_close", pid=self.pid)
        if not self._ended.wait(_CLOSE_SECONDS):
            self.kill()
            self._ended.wait(_CLOSE_SECONDS)
        self._pump.join(_LAST_WORDS_SECONDS)
        self._log_file.close()

    def last_words(self, max_bytes: int) -> str:
        """The end of what it wrote to standard output and error."""
        self._pump.join(_LAST_WORDS_SECONDS)
        with self._log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
            return file.read().decode(errors="replace").strip()

    def forget_log(self) -> None:
        """Remove the log of a process that never got a directory to leave it in."""
        self._log.unlink(missing_ok=True)

    def _keep_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                if line == _READY and not self._ready.is_set():
                    self._ready.set()
                    log.info("trainer_ready", pid=self.pid)
                else:
                    self._log_file.write(line)

    def _await_end(self) -> None:
        self._process.wait()
        self._ended.set()
        self._on_end()


def _environment(device: str) -> dict[str, str]:
    # A trainer needs no address and no password of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BNLAB_")}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("trainer_gone_before_kill", pid=pid)
