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

from bncore import hand_over
from bncore.hand_over import Job
from bncore.lifeline import die_with_parent, exit_on_eof
from bncore.run_directory import EXIT_DONE, EXIT_FAILED
from bncore.stop_request import StopRequest

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_LAST_THREAD_SECONDS = 1.0


def serve(stop: StopRequest, warm_up: Callable[[], None]) -> Job | None:
    """Warm up, then serve the socket that is standard input.

    Returns the job that this process, which may be a forked one by then, has to train; None when there is none left.
    """
    channel = socket.socket(fileno=_STDIN)
    with _leaving_early(channel, stop):
        warm_up()
    forks = _is_alone() and hasattr(os, "pidfd_open")
    if forks:
        # What lives now lives for ever: a collection in a child that touched it would copy it.
        gc.collect()
        gc.freeze()
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
            os._exit(EXIT_FAILED if channel.fileno() in found else EXIT_DONE)

    watching = threading.Thread(target=watch, name="leaving-early", daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.write(write_end, b".")
        watching.join()
        os.close(read_end)
        os.close(write_end)


def _has_job(channel: socket.socket) -> bool:
    """Whether there is one; none can come any more."""
    channel.shutdown(socket.SHUT_RD)
    return bool(channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))


def _is_alone() -> bool:
    """Whether a fork of this process is whole. Only Linux tells of threads that Python does not know."""
    until = time.monotonic() + _LAST_THREAD_SECONDS
    try:
        # A thread that has been joined is about to end, which on a busy machine takes a moment.
        while len(list(Path("/proc/self/task").iterdir())) > 1:
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
    except OSError:
        return False
    return True


def _next_job(channel: socket.socket, stop: StopRequest) -> Job | None:
    while not stop.asked:
        readable, _, _ = select.select([_STDIN, stop.wake], [], [])
        if _STDIN in readable:
            return hand_over.receive(channel)
        os.read(stop.wake, 64)
    return hand_over.receive(channel) if _has_job(channel) else None


def _fork_a_trainer(stop: StopRequest) -> bool:
    """Whether this process is the trainer: the new one, or the old one where there is no room for another process."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        between = os.fork()
    except OSError:
        return True
    if between:
        _, status = os.waitpid(between, 0)
        return status != 0
    between = os.getpid()
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
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
    exit_on_eof(_STDIN, lambda: os._exit(EXIT_FAILED))
    hand_over.announce(job)
