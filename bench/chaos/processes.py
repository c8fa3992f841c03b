"""The service's processes by name: started, ended and stopped on purpose, started again when they end by themselves.

Invariant: one hand at a process at a time (`taking`); whatever ends without our doing is written down.
"""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.stack import Stack, catches

_LOOK_SECONDS = 0.2
_SOON_SECONDS = 3.0
# The grace of a trainer, what the worker adds to it before it ends itself by force, and a busy machine.
END_SECONDS = 60.0


class Busy(Exception):
    """Somebody is at it."""


@dataclass(frozen=True)
class Ended:
    """A process that ended: when, and how."""

    name: str
    at: float
    code: int
    lived_seconds: float


class Processes:
    """Keeps its names running from `start_all` to `stop_all`."""

    def __init__(self, stack: Stack, environments: Mapping[str, Mapping[str, str]]) -> None:
        self.names = tuple(environments)
        self.ended_by_themselves: list[Ended] = []
        self.terminated: list[Ended] = []
        """Asked to end, with their exit codes; -9 when they had to be killed after all."""
        self._stack = stack
        self._environments = environments
        self._hands = {name: threading.Lock() for name in environments}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started_at: dict[str, float] = {}
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start_all(self, *names: str) -> None:
        for name in names or self.names:
            self.start(name)
        if not self._keeper.is_alive():
            self._keeper.start()

    def stop_all(self) -> dict[str, int]:
        """Ask all to end; their exit codes."""
        self.let_be()
        for process in self._running.values():
            _await_ears(process)
            process.terminate()
        return {name: self._end_of(name) for name in self.names if name in self._running}

    def let_be(self) -> None:
        """From now on what ends stays ended."""
        self._ending.set()
        if self._keeper.is_alive():
            self._keeper.join()

    @contextlib.contextmanager
    def taking(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Have it for oneself. Raises `Busy` when that does not come to pass soon, or, with `wait`, at all."""
        if not self._hands[name].acquire(timeout=END_SECONDS if wait else _SOON_SECONDS):
            raise Busy(name)
        try:
            yield
        finally:
            self._hands[name].release()

    def pid(self, name: str) -> int | None:
        """None while it does not run."""
        process = self._running.get(name)
        return None if process is None or process.poll() is not None else process.pid

    def start(self, name: str) -> None:
        self._started_at[name] = time.time()
        self._running[name] = self._stack.start(name, **self._environments[name])

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def terminate(self, name: str) -> int:
        """SIGTERM, and the exit code."""
        self._running[name].terminate()
        return self._end_of(name)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def _end_of(self, name: str) -> int:
        process = self._running.pop(name)
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self.terminated.append(self._ended(name, code))
        return code

    def _keep(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            for name in self.names:
                with contextlib.suppress(Busy), self.taking(name):
                    self._look_after(name)

    def _look_after(self, name: str) -> None:
        process = self._running.get(name)
        if process is None or (code := process.poll()) is None:
            return
        self.ended_by_themselves.append(self._ended(name, code))
        self.start(name)

    def _ended(self, name: str, code: int) -> Ended:
        return Ended(name, time.time(), code, time.time() - self._started_at[name])


def after(seconds: float, ending: threading.Event, act: Callable[[], object]) -> None:
    """Wait so long, or until the whole is about to end, then act, whatever happened meanwhile."""
    try:
        ending.wait(seconds)
    finally:
        act()


def _await_ears(process: "subprocess.Popen[bytes]") -> None:
    """Until it can be told to end: one that was just started may not have come to its first line."""
    deadline = time.monotonic() + END_SECONDS
    while process.poll() is None and time.monotonic() < deadline and not catches(process.pid, signal.SIGTERM):
        time.sleep(_LOOK_SECONDS)
