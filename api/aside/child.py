"""The process beside the API: calls one function after another, and ends when nobody listens any more.

Invariant: what a function refuses, or fails with, is an answer; only what no process survives is silence. A function is
ended for the CPU time that it has taken, which is its own; how long that took by the clock is the machine's.
"""

import functools
import importlib
import json
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from api.aside.messages import LENGTH, head_of
from bncore.lifeline import die_with_parent

Function = Callable[[dict[str, Any], Sequence[bytes]], bytes]
NICE = 5
"""Requests that wait for no picture go first where there are more processes than cores."""


def serve(memory_bytes: int, cpu_seconds: float) -> None:
    """Answer until the other end is closed, each time within so many CPU seconds of all threads together."""
    die_with_parent()
    os.nice(NICE)
    # Of what is written to, not of addresses: a JavaScript engine reserves gigabytes of those.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    # By the kernel, whatever holds Python's lock; whoever began this process may have left the signal ignored.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with socket.socket(fileno=os.dup(0)) as other:
        # Whatever a library prints is no message.
        while (document := _read_object(other)) is not None:
            blobs = [_read(other, size) for size in document["sizes"]]
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            said, answer = _answer(document, blobs)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            del blobs
            other.sendall(head_of(said, [answer]))
            other.sendall(answer)


def _answer(document: dict[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], bytes]:
    try:
        return {}, _function(document["function"])(document["asked"], blobs)
    except MemoryError:
        # Memory that cannot be had is not given back either: the next one starts anew.
        os._exit(1)
    except Exception as error:
        code = getattr(error, "code", None)
        if isinstance(code, str):
            return {"refused": code, "detail": str(error), "field": getattr(error, "field", None)}, b""
        return {"failed": traceback.format_exc()[-4000:]}, b""


@functools.cache
def _function(name: str) -> Function:
    module, _, function = name.partition(":")
    found: Function = getattr(importlib.import_module(module), function)
    return found


def _read_object(other: socket.socket) -> dict[str, Any] | None:
    """The next object; None at the end."""
    try:
        length = LENGTH.unpack(_read(other, LENGTH.size))[0]
        document: dict[str, Any] = json.loads(_read(other, length))
        return document
    except EOFError:
        return None


def _read(other: socket.socket, size: int) -> bytes:
    found = bytearray(size)
    view, at = memoryview(found), 0
    while at < size:
        count = other.recv_into(view[at:])
        if not count:
            raise EOFError
        at += count
    return bytes(found)
