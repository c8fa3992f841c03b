"""One process of the stack: started with a pipe that only we hold, restarted when it dies, stopped when asked.

The pipe is the invariant: its write end is close-on-exec and never passed on, so the kernel closes it with us, however
we die, and the child sees end of file.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from client.local.environment import python

LOG_BYTES = 10 * 1024 * 1024
WATCH_SECONDS = 30.0
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
SETTLED_SECONDS = 30.0
"""A child that lived this long and then died is restarted without the delay that its earlier deaths earned."""


class Child:
    """`python -P -m <arguments>` kept running by a thread of its own, with some `descriptors` of ours."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        once: bool = False,
        stop_seconds: float = 10.0,
        descriptors: Sequence[int] = (),
        notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.log = log
        self.deaths = 0
        self.exit_code: int | None = None
        self.last_end = "has not ended"
        self._command = python("-m", *arguments)
        self._environment = dict(environment)
        self._once = once
        self._stop_seconds = stop_seconds
        self._descriptors = descriptors
        self._notice = notice
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._keep_running, name=f"keep-{name}", daemon=True)

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Whether the child has ended for good by then."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def ask_to_end(self) -> None:
        """SIGTERM, and return at once."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """End the child: by SIGTERM, and by SIGKILL when it takes too long or `hurry` says so."""
        if not self._stopping.is_set():
            self.ask_to_end()
        if not self._thread.ident:
            return
        deadline = time.monotonic() + self._stop_seconds
        while not self.join(0.05):
            if hurry() or time.monotonic() > deadline:
                self._signal(signal.SIGKILL)

    def has_logged(self, event: str) -> bool:
        """Whether the process that runs now has written a line of that event."""
        with self._starting:
            pid = self._process.pid if self._process is not None else None
        return any(line.get("event") == event and line.get("pid") == pid for line in map(_fields, self._log_end()))

    def log_tail(self, lines: int = 15) -> str:
        """The end of what the child has written."""
        return "\n".join(self._log_end()[-lines:])

    def _log_end(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def _signal(self, number: int) -> None:
        with self._starting:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def _keep_running(self) -> None:
        backoff_seconds = FIRST_BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            self._run_once()
            if self._once or self._stopping.is_set():
                return
            self.deaths += 1
            # Nobody may be reading what we say; the child is restarted all the same.
            with contextlib.suppress(OSError):
                self._notice(f"{self.name} {self.last_end} and is started again; see {self.log}")
            if time.monotonic() - began > SETTLED_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            if self._stopping.wait(backoff_seconds):
                return
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)

    def _run_once(self) -> None:
        try:
            process = self._start_process()
        except OSError as error:
            self.exit_code, self.last_end = None, f"could not be started ({error})"
            return
        if process is None:
            return
        self.exit_code = self._watch(process)
        self.last_end = f"ended with code {self.exit_code}"
        if process.stdin is not None:
            process.stdin.close()

    def _start_process(self) -> "subprocess.Popen[bytes] | None":
        self._trim_log()
        with self._starting, self.log.open("ab") as log:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                close_fds=True,
                pass_fds=self._descriptors,
                # A session of its own: Ctrl-C in the terminal reaches `bnlab` alone, which stops the rest in order.
                start_new_session=True,
            )
            return self._process

    def _watch(self, process: "subprocess.Popen[bytes]") -> int:
        while True:
            try:
                return process.wait(timeout=WATCH_SECONDS)
            except subprocess.TimeoutExpired:
                self._trim_log()

    def _trim_log(self) -> None:
        """Keep one older part. The child appends to the open file, so it is emptied in place, not renamed."""
        # On a full disk it stays long: who watches the child must not die of that.
        with contextlib.suppress(OSError):
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)


def _fields(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
