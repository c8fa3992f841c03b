"""Ports to listen on. They are chosen before the children start, so that a restarted child finds its own again."""

import errno
import socket
import sys
import time


class PortTaken(Exception):
    """Nobody can listen on the address that was asked for, mostly since something else does."""


def free_port() -> int:
    """A loopback port for children of this process, as often as they listen on it; nobody else is given it.

    On Linux it stays bound for the life of this process, also while a child that listened there starts anew: whoever
    listens with SO_REUSEADDR, as servers do, may share it with one that does not listen.
    """
    holder = socket.socket()
    # SO_REUSEADDR comes after: with it two processes could be given one port.
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform != "linux":
        holder.close()
        return port
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.detach()
    return port


def require_free(host: str, port: int, wait_seconds: float) -> None:
    """Raise `PortTaken` unless one could listen there; waits a little for a stack that is just ending."""
    deadline = time.monotonic() + wait_seconds
    while (reason := _why_not(host, port)) is not None:
        # Nothing else changes by waiting: neither whose the address is, nor who may have the port.
        if reason.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            another_would_do = reason.errno in (errno.EADDRINUSE, errno.EACCES)
            advice = "; --port 0, or PORT=0 with make, takes a free port" if another_would_do else ""
            raise PortTaken(f"cannot listen on {host}:{port}: {reason.strerror or reason}{advice}")
        time.sleep(0.1)


def _why_not(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of an earlier server that linger do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
