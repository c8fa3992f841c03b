"""Clients of an HTTP server on this machine: threads that write bytes to a socket and read what comes back.

Invariant: every answer is looked at. A server that refuses quickly, or answers something else, has no rate.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Question:
    """A request as bytes, and whether a body answers it."""

    request: bytes
    is_answered_by: Callable[[bytes], bool] = lambda _body: True


def request(port: int, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """The bytes of a request with a body of JSON or none; `headers` are whole lines."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def ask(port: int, question: Question) -> bytes:
    """The body of one answer."""
    with _connection(port) as connection:
        return _answer(connection, question)


def ask_again_and_again(port: int, question: Question, clients: int, seconds: float) -> list[float]:
    """How long each answer took. Each client keeps a connection, and asks as soon as it has its answer."""
    together = threading.Barrier(clients)

    def client() -> list[float]:
        taken: list[float] = []
        with _connection(port) as connection:
            together.wait(_ANSWER_SECONDS)
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                _answer(connection, question)
                taken.append(time.perf_counter() - began)
        return taken

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(client) for _ in range(clients)]
    return [seconds for client in running for seconds in client.result()]


def _connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)


def _answer(connection: socket.socket, question: Question) -> bytes:
    connection.sendall(question.request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _piece(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] in (b"200", b"202"), (head, body)
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _piece(connection)
    assert question.is_answered_by(body), body
    return body


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 20)
    assert piece, "the connection was closed instead of an answer"
    return piece
