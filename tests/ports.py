"""Ports for servers that a test starts, stops and starts again.

Invariant: a port that was given is nobody else's as long as this process lives, whether its server runs or not: not
that of a test which runs beside this one, nor of a connection that goes out from this machine meanwhile.
"""

import socket

_HELD: list[socket.socket] = []


def free_port() -> int:
    """A loopback port on which whoever knows it can listen, once at a time; until then connections are refused."""
    held = socket.socket()
    # Bound and not listening: with this option on both sides (every server here sets it) another may listen.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])
