"""A call that got no answer is made again, and a submit still happens once."""

import select
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import ApiError, Client, Unreachable
from client.local.ports import free_port


class AnswerLoser:
    """A TCP proxy in front of a real server: of the first answers it passes none on, but cuts the connection."""

    def __init__(self, target_port: int, lost: int, port: int | None = None) -> None:
        self._target = ("127.0.0.1", target_port)
        self._left = lost
        self.port = port or free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "AnswerLoser":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        # Closing a socket does not wake its accept(); a connection does.
        self._left = -1
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            near, _ = self._listener.accept()
            with near, socket.create_connection(self._target) as far:
                if self._left < 0:
                    return
                self._pass_on(near, far)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        while self._left >= 0:
            readable, _, _ = select.select([near, far], [], [], 0.1)
            if far in readable and self._left > 0:
                self._left -= 1
                return
            for source in readable:
                data = source.recv(1 << 20)
                if not data:
                    return
                (far if source is near else near).sendall(data)


@contextmanager
def losing_answers(stack, lost: int):
    """A client whose first calls are carried out, but not answered."""
    with (
        AnswerLoser(int(stack.url.rpartition(":")[2]), lost) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", stack.api_key) as client,
    ):
        yield client


def test_a_submit_whose_answers_are_lost_is_stored_once(stack, client, idle_spec):
    name = "its answers were lost"
    with losing_answers(stack, 2) as distant:
        experiment = distant.submit(idle_spec | {"name": name})
    assert [found["id"] for found in client.list(name=name)] == [experiment["id"]]


def test_a_delete_whose_answer_is_lost_is_done_and_no_error(stack, client, idle_spec):
    experiment = client.submit(idle_spec)
    client.cancel(experiment["id"])
    with losing_answers(stack, 1) as distant:
        distant.delete(experiment["id"])
    with pytest.raises(ApiError, match="404"):
        client.get(experiment["id"])


def test_a_retry_whose_answer_is_lost_is_done_and_no_error(stack, client, idle_spec):
    experiment = client.submit(idle_spec)
    client.cancel(experiment["id"])
    with losing_answers(stack, 1) as distant:
        assert distant.retry(experiment["id"])["state"] == "queued"
    assert [event["kind"] for event in client.events(experiment["id"])].count("retried") == 1


def test_a_key_whose_answer_is_lost_is_not_made_twice(stack, client):
    with losing_answers(stack, 1) as distant, pytest.raises(Unreachable):
        distant.create_key("its answer was lost")
    assert [key["name"] for key in client.list_keys()].count("its answer was lost") == 1


def test_what_is_not_repeated_is_asked_again_where_nothing_was_done():
    with refusing([429]) as (url, asked), Client(url) as client:
        client.create_key("x")
    assert len(asked) == 2
    with refusing([503]) as (url, asked), Client(url) as client, pytest.raises(ApiError, match="503"):
        client.create_key("x")
    assert len(asked) == 1


@pytest.fixture
def patient(stack):
    """A client that waits for a restart, however long a busy machine takes for it."""
    with stack.client(retry_seconds=150.0) as client:
        yield client


def test_a_killed_api_comes_back_on_its_port_and_calls_in_between_succeed(stack, patient, idle_spec):
    api = stack.child("-m", "api")
    api.kill()
    experiment = patient.submit(idle_spec)
    assert patient.get(experiment["id"])["state"] == "queued"
    assert stack.child("-m", "api").pid != api.pid


def test_waiting_outlives_a_restart_of_the_api(stack, patient, idle_spec):
    experiment, seen = patient.submit(idle_spec), threading.Event()
    results = []

    def watch() -> None:
        with stack.client() as watching:
            results.append(watching.wait(experiment["id"], 150.0, lambda _: seen.set()))

    thread = threading.Thread(target=watch)
    thread.start()
    assert seen.wait(60.0)
    stack.child("-m", "api").kill()
    patient.cancel(experiment["id"])
    thread.join()
    assert [each["state"] for each in results] == ["cancelled"]


@contextmanager
def refusing(statuses: list[int], **headers: str):
    """A server that answers with these statuses, one after the other, then with an empty listing."""
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(time.monotonic())
            self.send_response(statuses.pop(0) if statuses else 200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            body = b'{"data": [], "next_cursor": null}'
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_or_away_is_asked_again(status):
    with refusing([status, status]) as (url, asked), Client(url) as client:
        assert list(client.list()) == []
    assert len(asked) == 3


def test_retry_after_is_honoured():
    with refusing([429], Retry_After="1") as (url, asked), Client(url) as client:
        assert list(client.list()) == []
    # By itself it would try again after a tenth of that.
    assert asked[1] - asked[0] >= 1.0


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_a_refusal_is_final(status):
    with refusing([status]) as (url, asked), Client(url) as client, pytest.raises(ApiError, match=str(status)):
        list(client.list())
    assert len(asked) == 1


def test_patience_has_an_end():
    with (
        refusing([503] * 100) as (url, asked),
        Client(url, retry_seconds=0.5) as client,
        pytest.raises(ApiError, match="503"),
    ):
        list(client.list())
    # The first is answered in less than half a second, unless this machine is busy; then it is the last.
    assert 1 <= len(asked) < 100


def test_no_server_is_said_in_time():
    port, told = free_port(), []
    with (
        Client(f"http://127.0.0.1:{port}", retry_seconds=0.3, notice=told.append) as client,
        pytest.raises(Unreachable, match=str(port)),
    ):
        client.results("exp_1")
    assert [line.partition("; ")[2] for line in told] == ["trying for up to 0.3 s"]


def test_no_answer_is_told_at_once_and_so_is_its_end():
    told = []
    with refusing([503, 503]) as (url, _asked), Client(url, notice=told.append) as client:
        assert list(client.list()) == []
    assert len(told) == 2
    assert "trying for up to 30 s" in told[0]
    assert told[1] == f"{url} answers again"


def test_a_refusal_that_is_final_is_no_outage():
    told = []
    with refusing([404]) as (url, _asked), Client(url, notice=told.append) as client, pytest.raises(ApiError):
        list(client.list())
    assert told == []


def test_a_wait_sits_out_what_other_calls_are_told_at_once(stack, client, idle_spec):
    """A refused connection is final for a command, and the middle of a restart for a wait."""
    experiment = client.submit(idle_spec)
    client.cancel(experiment["id"])
    port = free_port()
    away, told = threading.Event(), []

    def notice(text: str) -> None:
        told.append(text)
        away.set()

    results = []
    with Client(f"http://127.0.0.1:{port}", stack.api_key, refused_at_once=True, notice=notice) as distant:
        with pytest.raises(Unreachable, match="refused"):
            distant.get(experiment["id"])
        assert told == []
        thread = threading.Thread(target=lambda: results.append(distant.wait(experiment["id"], 150.0)))
        thread.start()
        assert away.wait(60.0)
        with AnswerLoser(int(stack.url.rpartition(":")[2]), 0, port):
            thread.join()
    assert [each["state"] for each in results] == ["cancelled"]
    assert "refused" in told[0]
