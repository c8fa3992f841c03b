"""The process that has imported everything (`python -m bncore --zygote`), seen from the worker.

Invariant: it ends with its socket, whose other end is in this process only. The trainers it forks are adopted by this
process as soon as they are born: they outlive it, and their exit status is told here.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bncore import hand_over
from bncore.hand_over import Job
from worker.child_process import ChildProcess
from worker.trainer_process import Terms, TrainerGone, TrainerProcess, tail

log = structlog.get_logger()

_BIRTH_SECONDS = 2.0
_LAST_WORDS_BYTES = 4000
_CLOSE_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36


class Zygote:
    """Hands jobs to a waiting process, which writes to `log_path` until it trains."""

    def __init__(self, log_path: Path, device: str, on_ready: Callable[[], None], on_end: Callable[[], None]) -> None:
        # A process that has touched a GPU must not fork, nor one whose orphans would be lost.
        self.may_fork = device == "cpu" and _adopt_orphans()
        self._log = log_path
        self._began = time.monotonic()
        self._ready = threading.Event()
        self._on_ready = on_ready
        self._forks = False
        self._trains = self._gave_up = False
        self._channel, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bncore", "--zygote"],
                stdin=theirs.fileno(),
                stdout=output.fileno(),
                stderr=output.fileno(),
                env=_environment(device, log_path.parent),
                start_new_session=True,
                close_fds=True,
            )
        self._process = ChildProcess(process.pid, process.wait)
        self._listening = threading.Thread(target=self._listen, name="zygote-ready", daemon=True)
        self._listening.start()
        self._process.when_ended(self._bury_unborn)
        self._process.when_ended(on_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    @property
    def spent(self) -> bool:
        """Whether it can take no job: it trains one by itself, has ended, or did not answer."""
        return self._trains or self._gave_up or self._process.ended

    @property
    def was_ready(self) -> bool:
        """Whether it had warmed up."""
        return self._ready.is_set()

    @property
    def last_words(self) -> str:
        """The last line of what it wrote, or else how it ended."""
        said = tail(self._log, _LAST_WORDS_BYTES).decode(errors="replace").split("\n")
        lines = ["".join(char if char.isprintable() else " " for char in line).strip() for line in said if line.strip()]
        return lines[-1] if lines else f"the process ended with code {self._process.returncode}"

    def train(self, run_directory: Path, log_path: Path, terms: Terms) -> TrainerProcess:
        """Have a run directory trained: by a fork if it is ready for that, and otherwise by the process itself.

        Raises `TrainerGone`; then it is spent.
        """
        output = _opened(log_path)
        lifeline_read, lifeline = os.pipe()
        bell, bell_write = os.pipe()
        fork = self._forks and self.may_fork
        try:
            pid = self._hand_over(Job(run_directory, fork, lifeline_read, bell_write, output), bell)
        except TrainerGone:
            self._gave_up = True
            self._process.kill()
            os.close(lifeline)
            threading.Thread(target=_bury_late, args=(bell,), name="late-birth", daemon=True).start()
            raise
        self._trains = pid == self.pid
        return TrainerProcess(
            self._process if self._trains else ChildProcess(pid, lambda: _reap(pid)),
            terms,
            lifeline=lifeline,
            bell=bell,
            logs=[self._log, log_path] if self._trains else [log_path],
            was_ready=self._ready.is_set,
        )

    def close(self) -> None:
        """Let go of it. Unless it trains, it ends by the end of its socket, and by force if that is not enough."""
        if self._trains:
            return
        # Closed already where it has ended.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        if not self._process.await_end(_CLOSE_SECONDS):
            self._process.kill()
            self._process.await_end(_CLOSE_SECONDS)
        self._log.unlink(missing_ok=True)

    def _listen(self) -> None:
        """Until it takes a job for itself, or ends."""
        # It is reset by the end of a process with jobs that it never read.
        with self._channel, contextlib.suppress(ConnectionResetError), self._channel.makefile("rb") as lines:
            for line in lines:
                self._forks = line == hand_over.READY_TO_FORK
                self._ready.set()
                log.info("trainer_ready", pid=self.pid, forks=self._forks)
                self._on_ready()

    def _hand_over(self, job: Job, bell: int) -> int:
        """The trainer's number."""
        try:
            hand_over.send(self._channel, job)
        except OSError as error:
            raise TrainerGone from error
        finally:
            job.close()
        pid = hand_over.read_pid(bell, _BIRTH_SECONDS) if job.fork else self.pid
        if pid is None:
            raise TrainerGone
        return pid

    def _bury_unborn(self) -> None:
        """What it had not yet forked to the end has its process group, and is ours now."""
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return


def _opened(log_path: Path) -> int:
    return os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _adopt_orphans() -> bool:
    """Make this process the parent of every descendant whose own parent ends. Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _bury_late(bell: int) -> None:
    """A trainer that nobody waits for any more: its lifeline is closed, it ends by itself."""
    pid = hand_over.read_pid(bell, None)
    os.close(bell)
    if pid is not None:
        os.waitpid(pid, 0)


def _environment(device: str, folder: Path) -> dict[str, str]:
    # A trainer needs no address and no password of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BNLAB_")}
    # numpy's own BLAS, which nothing here uses, would start a thread a core, and a process with threads cannot fork.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    environment["TMPDIR"] = str(folder)
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment
