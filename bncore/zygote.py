"""The process that has warmed up and waits for jobs: it forks a trainer for each, or becomes the trainer of the first.

Invariant: it forks only while it is its process's only thread, so that no lock and no thread pool is lost in the child;
a trainer is no child of it but of the worker, which adopts orphans, so that its end is known whatever becomes of us.
"""

import contextlib
import gc
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bncore import hand_over, huge_pages
from bncore.hand_over import Job
from bncore.lifeline import die_with_parent, exit_on_silence
from bncore.run_directory import EXIT_ALONE, EXIT_DONE
from bncore.stop_request import StopRequest

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_GONE_SECONDS = 0.0002


def serve(stop: StopRequest, warm_up: Callable[[], None]) -> Job | None:
    """Warm up, then serve the socket that is standard input.

    Returns the job that this process, which may be a forked one by then, has to train; None when there is none left.
    """
    channel = socket.socket(fileno=_STDIN)
    with _leaving_early(channel, stop):
        warm_up()
    forks = _can_fork()
    if forks:
        # What lives now lives for ever: a collection in a child that touched it would copy it.
        gc.collect()
        gc.freeze()
        huge_pages.collapse()
    with contextlib.suppress(OSError):
        channel.sendall(hand_over.READY_TO_FORK if forks else hand_over.READY)
    while (job := _next_job(channel, stop)) is not None:
        if not (forks and job.fork) or _fork_a_trainer(stop):
            # Its descriptor is the lifeline's from now on.
            channel.detach()
            _take(job)
            return job
        job.close()
    return None


@contextlib.contextmanager
def _leaving_early(channel: socket.socket, stop: StopRequest) -> Iterator[None]:
    """Until the block ends, go at once if nobody is left to work for, or if told to and there is no job to stop."""
    read_end, write_end = os.pipe()

    def watch() -> None:
        poll = select.poll()
        poll.register(channel, 0)  # a hang-up is told unasked
        for end in (stop.wake, read_end):
            poll.register(end, select.POLLIN)
        found = {end for end, _ in poll.poll()}
        if read_end not in found and not _has_job(channel):
            # An interpreter cannot end cleanly in the middle of an import.
            os._exit(EXIT_ALONE if channel.fileno() in found else EXIT_DONE)

    watching = threading.Thread(target=watch, name="leaving-early", daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.write(write_end, b".")
        watching.join()
        # Joined is not yet gone, and it would be counted.
        while Path(f"/proc/self/task/{watching.native_id}").exists():
            time.sleep(_GONE_SECONDS)
        os.close(read_end)
        os.close(write_end)


def _has_job(channel: socket.socket) -> bool:
    """Whether there is one; none can come any more."""
    channel.shutdown(socket.SHUT_RD)
    return bool(channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))


def _can_fork() -> bool:
    """Whether a fork of this process is whole and would be adopted. Only Linux tells of threads unknown to Python."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except (AttributeError, OSError):
        return False


def _next_job(channel: socket.socket, stop: StopRequest) -> Job | None:
    while not stop.asked:
        readable, _, _ = select.select([_STDIN, stop.wake], [], [])
        if _STDIN in readable:
            return hand_over.receive(channel)
        os.read(stop.wake, 64)
    return hand_over.receive(channel) if _has_job(channel) else None


def _fork_a_trainer(stop: StopRequest) -> bool:
    """Whether this process is the trainer. Where there is no room for another process, OSError ends this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return False
    between = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    stop.stop_waking()
    _await_end(between)
    # By now that is the worker, for as long as it lives.
    die_with_parent()
    return True


def _await_end(parent: int) -> None:
    """Then this process is the worker's child, and the worker may wait for it."""
    try:
        ending = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    select.select([ending], [], [])
    os.close(ending)


def _take(job: Job) -> None:
    os.dup2(job.lifeline, _STDIN)
    os.dup2(job.log, _STDOUT)
    os.dup2(job.log, _STDERR)
    os.close(job.lifeline)
    os.close(job.log)
    exit_on_silence(_STDIN, lambda: os._exit(EXIT_ALONE))
    hand_over.announce(job)
