"""A TCP port in front of a server, to take the server away and give it back.

Invariant: `cut` leaves no connection and no listener behind, so that clients see what they would see of a dead server;
and once answers are let through again there is no connection left that lost one, which would wait for it for ever.
"""

import contextlib
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Forwards to whatever `connect` connects to; `port` stays the same through every cut."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._changing = threading.Lock()
        self._withholds = False
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Let clients in (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        with self._changing, contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Drop every connection; new ones are let in, and get answers."""
        with self._changing:
            pairs, self._pairs = self._pairs, []
            self._withholds = False
        for one in (one for pair in pairs for one in pair):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def withhold_answers(self) -> None:
        """From now on requests go through and answers do not, until `drop`, or `cut` and `mend`."""
        with self._changing:
            self._withholds = True

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                # The server is away: to the client it looks like that.
                client.close()
                continue
            with self._changing:
                self._pairs.append((client, server))
            threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (is_answer and self._withheld(target)):
                    target.sendall(data)
        # The other direction closes its own source; each socket is closed by the thread that reads it.
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        source.close()

    def _withheld(self, client: socket.socket) -> bool:
        """Whether a client goes without answers: not one that came after the last `drop`."""
        with self._changing:
            return self._withholds or all(one is not client for one, _ in self._pairs)
