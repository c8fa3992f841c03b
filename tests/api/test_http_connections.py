"""Connections: what may take its time, what ends, and that a crowd of them harms nobody for long."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from bncore.spec import load_spec
from store import experiments
from store.experiments import Submission
from store.owners import DEFAULT_OWNER
from tests.api.trouble import api_process, until

SOON_SECONDS = 0.3
ENOUGH_SECONDS = 120.0
"""For any deadline and the sweep that sees to it, on any machine."""


@pytest.fixture
def impatient(request: pytest.FixtureRequest, sqlite_url: str, serve: Callable[..., Any]) -> Any:
    """A service with short deadlines, each named by the test: of all others none may pass on a busy machine."""
    with serve(sqlite_url, **dict.fromkeys(request.param, SOON_SECONDS)) as api:
        yield api


def hurries(*deadlines: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("impatient", [deadlines], indirect=True, ids=["_".join(deadlines)])


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


@hurries("first_byte_seconds")
def test_silence_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port) as connection:
        assert rest_of(connection) == b""


@hurries("head_seconds")
@pytest.mark.parametrize("sent", [b"GET", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_half_a_head_ends_a_connection(impatient: Any, sent: bytes) -> None:
    with connected(impatient.port, sent) as connection:
        head, _, body = rest_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request_timeout"


@hurries("body_seconds")
@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_half_a_body_ends_a_connection(impatient: Any, length: str) -> None:
    with connected(impatient.port, head_of_post(impatient, length) + b"1") as connection:
        head = rest_of(connection).partition(b"\r\n")[0]
    assert head.startswith(b"HTTP/1.1 408 ")


@hurries("body_seconds")
def test_a_body_that_trickles_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port, head_of_post(impatient, "Content-Length: 100000")) as connection:
        connection.settimeout(0.05)
        answer = b""
        # The whole body would take eight minutes.
        while not answer:
            connection.sendall(b" " * 10)
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b" " * 65536)


@hurries("body_seconds")
def test_a_body_that_goes_on_after_its_refusal_ends_a_connection(impatient: Any) -> None:
    with connected(impatient.port, head_of_post(impatient, f"Content-Length: {1 << 30}")) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            send_for_ever(connection)


REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@hurries("idle_seconds")
def test_a_connection_that_is_not_used_again_ends(impatient: Any) -> None:
    with connected(impatient.port, REQUEST) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert rest_of(connection) == b""
    with connected(impatient.port, REQUEST * 5) as connection:
        assert rest_of(connection).count(b"HTTP/1.1 200 ") == 5


@hurries("head_seconds", "stall_seconds")
def test_a_connection_is_used_again_after_a_while(impatient: Any) -> None:
    with connected(impatient.port, REQUEST) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        # Longer than any of these deadlines, and a sweep: nothing comes of them.
        connection.settimeout(2 * SOON_SECONDS + 0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(ENOUGH_SECONDS)
        connection.sendall(REQUEST)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@hurries("stall_seconds")
def test_whoever_does_not_take_the_answer_is_cut_off(impatient: Any, by_hand: Callable[..., Any]) -> None:
    made, size = impatient.submit(), 32 << 20
    checkpoint = by_hand(impatient.database).checkpoint("best", 1, b"w" * size)
    address = f"/v1/experiments/{made}/checkpoints/{checkpoint}/content"
    request = f"GET {address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {impatient.key}\r\n\r\n".encode()
    impatient.client.close()
    connections = impatient.server.server_state.connections
    until(lambda: not connections)
    with connected(impatient.port, request) as connection:
        # The answer has begun.
        assert connection.recv(1) == b"H"
        until(lambda: not connections)
        with contextlib.suppress(ConnectionError):
            assert len(rest_of(connection)) < size


def test_requests_may_not_be_sent_ahead_by_the_hundred(shared_api: Any) -> None:
    with connected(shared_api.port, REQUEST * 500) as connection, contextlib.suppress(ConnectionError):
        assert rest_of(connection).count(b"HTTP/1.1 ") < 500


@hurries("head_seconds", "body_seconds", "idle_seconds", "stall_seconds")
def test_a_waiting_request_is_not_hurried(impatient: Any) -> None:
    with impatient.database.write() as session:
        made = experiments.submit(session, Submission.of(load_spec({})), owner=DEFAULT_OWNER, device="cpu").id
    address = f"/v1/experiments/{made}/results?wait=1"
    request = f"GET {address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {impatient.key}\r\n\r\n".encode()
    with connected(impatient.port, request) as connection:
        assert rest_of(connection).startswith(b"HTTP/1.1 200 ")


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
        assert httpx.get(f"{api.url}/healthz", timeout=300).status_code == 200


def test_more_connections_than_open_files_neither_silence_the_service_nor_fill_its_log(sqlite_url: str) -> None:
    quick, began = {"BNLAB_FIRST_BYTE_SECONDS": "1"}, time.monotonic()
    with api_process(sqlite_url, open_files=160, **quick) as api, contextlib.ExitStack() as stack:
        for _ in range(400):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(connected(api.port))
        until(lambda: _answers(api.url))
        api.running.terminate()
        lines = list(api.logged())
    refused = [line for line in lines if line["event"] == "connections_refused"]
    # One each half a second at most, for hundreds of connections.
    assert 1 <= len(refused) <= 2 * (time.monotonic() - began) + 1
    assert len(lines) - len(refused) < 10


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=300).status_code == 200
    except httpx.TransportError:
        return False
