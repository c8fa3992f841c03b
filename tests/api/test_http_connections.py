"""Connections: what may take its time, what ends, and that a crowd of them harms nobody for long."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.api.trouble import api_process, until

QUICK = {
    "first_byte_seconds": 0.3, "head_seconds": 0.3, "body_seconds": 0.3, "min_body_rate": 1e6, "idle_seconds": 0.3,
    "stall_seconds": 0.5,
}  # fmt: skip
ENOUGH_SECONDS = 3.0
"""For any of these deadlines and the sweep that sees to it."""


@pytest.fixture(scope="module")
def impatient(migrated_sqlite: Any, tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Any:
    """A service whose deadlines are short."""
    path = tmp_path_factory.mktemp("impatient") / "bnlab.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    with serve(f"sqlite:///{path}", **QUICK) as api:
        yield api


@contextlib.contextmanager
def connected(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=ENOUGH_SECONDS) as connection:
        connection.sendall(sent)
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def head_of_post(api: Any, *headers: str) -> bytes:
    lines = ["POST /v1/experiments:validate HTTP/1.1", "Host: x", f"Authorization: Bearer {api.key}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_silence_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port) as connection:
        assert rest_of(connection) == b""


@pytest.mark.parametrize("sent", [b"GET", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_half_a_head_ends_a_connection(impatient: Any, sent: bytes) -> None:
    with connected(impatient.port, sent) as connection:
        head, _, body = rest_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request_timeout"


@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_half_a_body_ends_a_connection(impatient: Any, length: str) -> None:
    with connected(impatient.port, head_of_post(impatient, length) + b"1") as connection:
        head = rest_of(connection).partition(b"\r\n")[0]
    assert head.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_trickles_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port, head_of_post(impatient, "Content-Length: 100000")) as connection:
        began = time.monotonic()
        connection.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - began < ENOUGH_SECONDS:
            connection.sendall(b" " * 10)
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_goes_on_after_its_refusal_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port, head_of_post(impatient, f"Content-Length: {1 << 30}")) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < ENOUGH_SECONDS:
                connection.sendall(b" " * 65536)
        assert time.monotonic() - began < ENOUGH_SECONDS


def test_a_connection_is_used_again_and_ends_when_it_is_not(impatient: Any) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(impatient.port, request) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert rest_of(connection) == b""


def test_whoever_does_not_take_the_answer_is_cut_off(impatient: Any, by_hand: Callable[..., Any]) -> None:
    made = impatient.submit()
    checkpoint = by_hand(impatient.database).checkpoint("best", 1, b"w" * (32 << 20))
    address = f"/v1/experiments/{made}/checkpoints/{checkpoint}/content"
    request = f"GET {address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {impatient.key}\r\n\r\n".encode()
    with connected(impatient.port, request):
        connections = impatient.server.server_state.connections
        until(lambda: any(connection.transport.get_write_buffer_size() for connection in list(connections)))
        until(lambda: not any(connection.transport.get_write_buffer_size() for connection in list(connections)))


def test_requests_may_be_sent_ahead_but_not_by_the_hundred(impatient: Any) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(impatient.port, request * 5) as connection:
        assert rest_of(connection).count(b"HTTP/1.1 200 ") == 5
    with connected(impatient.port, request * 500) as connection, contextlib.suppress(ConnectionError):
        assert rest_of(connection).count(b"HTTP/1.1 ") < 500


def test_a_waiting_request_is_not_hurried(impatient: Any) -> None:
    made = impatient.submit()
    assert impatient.client.get(f"/v1/experiments/{made}/results", params={"wait": 1.0}).status_code == 200


def test_beyond_their_number_connections_are_refused_with_an_answer(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, max_connections=5) as api, contextlib.ExitStack() as stack:
        api.client.close()
        held = [stack.enter_context(connected(api.port)) for _ in range(5)]
        until(lambda: len(api.server.server_state.connections) == 5)
        with connected(api.port) as connection:
            head, _, body = rest_of(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in head
        assert json.loads(body)["code"] == "too_many_connections"
        held[0].close()
        until(lambda: len(api.server.server_state.connections) < 5)
        assert httpx.get(f"{api.url}/healthz", timeout=60).status_code == 200


def test_more_connections_than_open_files_neither_silence_the_service_nor_fill_its_log(sqlite_url: str) -> None:
    quick = {"BNLAB_FIRST_BYTE_SECONDS": "1"}
    with api_process(sqlite_url, open_files=160, **quick) as api, contextlib.ExitStack() as stack:
        for _ in range(400):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(connected(api.port))
        until(lambda: _answers(api.url), seconds=20)
        api.running.terminate()
        lines = list(api.logged())
    assert len(lines) < 40
    assert any(line["event"] == "connections_refused" for line in lines)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).status_code == 200
    except httpx.TransportError:
        return False
