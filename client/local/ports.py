"""Ports to listen on. They are taken before the children start, so that a restarted child finds its own again."""

import contextlib
import errno
import socket
import sys
import time

_BACKLOG = 2048
"""Of connections that wait to be accepted; the API asks for as many."""


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


def listening(host: str, port: int, wait_seconds: float) -> list[socket.socket]:
    """Sockets that listen on a port of all addresses of a host, for children that accept there; port 0: a free one.

    Nobody else can listen there before they are closed, also while no child lives, and whoever connects meanwhile is
    answered by the next one. Raises `PortTaken`; waits a little for a stack that is just ending.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            # Nothing else changes by waiting: neither whose the address is, nor who may have the port.
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            another_would_do = error.errno in (errno.EADDRINUSE, errno.EACCES)
            advice = "; --port 0, or PORT=0 with make, takes a free port" if another_would_do else ""
            raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror or error}{advice}") from None


def _listen(host: str, port: int) -> list[socket.socket]:
    # As the API does when nobody has bound anything for it: without a name, on all addresses of this machine.
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as until:
        listeners: list[socket.socket] = []
        not_here: OSError | None = None
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listener = _listener(family, kind, protocol, (address[0], port, *address[2:]))
            except OSError as error:
                # A name may stand for addresses of both kinds where the machine has one.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                not_here = error
                continue
            listeners.append(until.enter_context(listener))
            port = port or int(listener.getsockname()[1])
        if not_here is not None and not listeners:
            raise not_here
        until.pop_all()
    return listeners


def _listener(family: int, kind: int, protocol: int, address: tuple[str | int, ...]) -> socket.socket:
    with contextlib.ExitStack() as until:
        listener = until.enter_context(socket.socket(family, kind, protocol))
        # As servers do: connections of an earlier server that linger do not matter.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        # Bound alone, others that say the same could bind it too, and one of all would find out by listening.
        listener.listen(_BACKLOG)
        until.pop_all()
    return listener
