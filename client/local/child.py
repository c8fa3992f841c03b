"""One process of the stack: started with a pipe that only we hold, restarted when it dies, stopped when asked.

The pipe is the invariant: its write end is close-on-exec and never passed on, so the kernel closes it with us, however
we die, and the child sees end of file.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOG_BYTES = 10 * 1024 * 1024
WATCH_SECONDS = 30.0
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
SETTLED_SECONDS = 30.0
"""A child that lived this long and then died is restarted without the delay that its earlier deaths earned."""


class Child:
    """`python -m <arguments>` kept running by a thread of its own."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        once: bool = False,
        stop_seconds: float = 10.0,
        notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.log = log
        self.deaths = 0
        self.exit_code: int | None = None
        self._command = [sys.executable, "-m", *arguments]
        self._environment = dict(environment)
        self._once = once
        self._stop_seconds = stop_seconds
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

    def stop(self, hurry: Callable[[], bool]) -> None:
        """End the child: by SIGTERM, and by SIGKILL when it takes too long or `hurry` says so."""
        self._stopping.set()
        if not self._thread.ident:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        while not self.join(0.05):
            if hurry() or time.monotonic() > deadline:
                self._signal(signal.SIGKILL)

    def log_tail(self, lines: int = 15) -> str:
        """The end of what the child has written."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        with self._starting:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def _keep_running(self) -> None:
        backoff_seconds = FIRST_BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            process = self._start_process()
            if process is None:
                return
            self.exit_code = self._watch(process)
            if process.stdin is not None:
                process.stdin.close()
            if self._once or self._stopping.is_set():
                return
            self.deaths += 1
            # Nobody may be reading what we say; the child is restarted all the same.
            with contextlib.suppress(OSError):
                self._notice(f"{self.name} ended with code {self.exit_code} and is started again; see {self.log}")
            if time.monotonic() - began > SETTLED_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            if self._stopping.wait(backoff_seconds):
                return
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)

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
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)
