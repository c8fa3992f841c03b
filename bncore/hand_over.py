"""How a worker gives a run directory to a process that has warmed up: what is said over the socket between them.

Invariant: a job is one message and carries the three ends that make its trainer independent of the socket: its lifeline
(end of file: go), its bell (the trainer's pid in a line, then a byte whenever there is news; end of file: it is gone),
its log. Nothing of torch is imported: both sides import this.
"""

import json
import os
import select
import socket
from dataclasses import dataclass
from pathlib import Path

READY = b"ready\n"
READY_TO_FORK = b"ready to fork\n"
"""Ready, and able to train many jobs, each in a process of its own."""

_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Job:
    """What to train, and the ends for whoever trains it. Unless it may `fork`, the process that hears it trains."""

    run_directory: Path
    fork: bool
    lifeline: int
    bell: int
    log: int

    def close(self) -> None:
        """Close this process's copies of the ends."""
        for end in (self.lifeline, self.bell, self.log):
            os.close(end)


def send(channel: socket.socket, job: Job) -> None:
    """Raises OSError when nobody will ever hear it."""
    text = json.dumps({"run_directory": str(job.run_directory), "fork": job.fork}).encode()
    socket.send_fds(channel, [text], [job.lifeline, job.bell, job.log])


def receive(channel: socket.socket) -> Job | None:
    """The next job; None when there will be none. Raises BlockingIOError where the socket does not wait."""
    text, ends, _, _ = socket.recv_fds(channel, _MAX_BYTES, 3)
    if not text:
        return None
    for end in ends:
        os.set_inheritable(end, False)
    lifeline, bell, log = ends
    said = json.loads(text)
    return Job(Path(said["run_directory"]), said["fork"], lifeline, bell, log)


def announce(job: Job) -> None:
    """Say who trains the job."""
    os.write(job.bell, f"{os.getpid()}\n".encode())
    os.set_blocking(job.bell, False)


def ring(job: Job) -> None:
    """Say that there is something to read; nobody need listen."""
    try:
        os.write(job.bell, b".")
    except OSError:
        return  # full of rings that nobody has heard yet, or nobody is left


def read_pid(bell: int, seconds: float | None) -> int | None:
    """Who trains the job, from the other end of its bell; None when nobody does, or nothing is said for so long."""
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([bell], [], [], seconds)
        byte = os.read(bell, 1) if readable else b""
        if not byte:
            return None
        line += byte
    return int(line)
