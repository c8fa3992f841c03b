"""`bnlab up` as a process: nothing it started outlives it, whatever ends it and whenever."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.client.conftest import END_SECONDS, START_SECONDS

REDIS = ("-m", "client.local.redis_server")
TRAINER = ("-m", "bncore", "--zygote")
STOPPING = "Stopping; what trains is saved first. Asked a second time, it stops without saving.\n"


@pytest.fixture
def up(bnlab, tmp_path):
    """Begin `bnlab up` with everything under `tmp_path`."""
    settings = ("--json", "--device", "cpu", "--port", "0", "--data-dir", str(tmp_path / "data"))

    def begin(workers=1, **options):
        return bnlab("up", *settings, "--workers", str(workers), **options)

    return begin


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(REDIS, marks=pytest.mark.system),
        ("store", "migrate"),
        pytest.param(("-m", "api"), marks=pytest.mark.system),
    ],
    ids=" ".join,
)
def test_killed_while_it_starts_it_leaves_no_process(up, words):
    stack = up()
    stack.child(*words)
    assert stack.end(signal.SIGKILL) == -signal.SIGKILL
    stack.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_asked_to_end_while_it_starts_it_ends_with_0(up, tmp_path, number):
    stack = up()
    stack.child("store", "migrate")
    assert stack.end(number) == 0
    stack.assert_nothing_left()
    assert stack.process.stdout.read() == ""
    assert (tmp_path / "stderr").read_text().endswith(STOPPING)


def test_a_stack_heals_refuses_a_second_and_ends_in_order_when_its_terminal_is_gone(up, tmp_path):
    reader, writer = os.pipe()
    stack = up(stderr=writer)
    os.close(writer)
    stack.wait_ready()
    second = up()
    assert second.process.wait(END_SECONDS) == 3
    complaint = (tmp_path / "stderr").read_text()
    assert str(stack.process.pid) in complaint
    assert stack.url in complaint

    redis = stack.child(*REDIS)
    server, port = server_of(redis)
    redis.kill()
    # The kernel kills the server with its wrapper; a new pair listens on the same port.
    assert psutil.wait_procs([server], timeout=END_SECONDS)[1] == []
    assert wait_for_new(stack, REDIS, redis.pid, port)

    api = stack.child("-m", "api")
    api.kill()
    api.wait(END_SECONDS)
    # Whoever comes while there is no API is not sent away: the next one answers.
    with stack.client(retry_seconds=0, timeout_seconds=END_SECONDS) as client:
        assert client.readyz()["database"] == "ok"

    os.close(reader)
    assert stack.end(signal.SIGHUP) == 0
    stack.assert_nothing_left()
    assert stack.process.stdout.read() == ""
    assert (tmp_path / "data" / "lock").read_text() == ""


@pytest.mark.system
def test_killed_while_it_trains_it_leaves_no_process_and_goes_on_when_up_again(up, tmp_path, long_spec):
    stack = up(workers=2, cwd=hostile(tmp_path / "hostile")).wait_ready()
    with stack.client() as client:
        assert client.readyz()["devices"] == {"cpu": 2}
        ids = [client.submit(long_spec)["id"] for _ in range(2)]
        for experiment_id in ids:
            until_training(client, experiment_id)
    logs = {path.name for path in (tmp_path / "data" / "logs").iterdir()}
    assert {"worker.log", "worker-2.log"} <= logs
    trainer = stack.child(*TRAINER)
    assert stack.end(signal.SIGKILL) == -signal.SIGKILL
    stack.assert_nothing_left()
    assert not trainer.is_running()

    again = up(workers=2).wait_ready()
    with again.client() as client:
        for experiment_id in ids:
            until_training(client, experiment_id, attempt=2)
    assert again.end(signal.SIGTERM) == 0
    again.assert_nothing_left()
    starting = "Starting Redis, database, API, relay and 2 workers ...\n"
    # One was killed and had no last word.
    assert (tmp_path / "stderr").read_text() == 2 * starting + STOPPING
    assert not (tmp_path / "hostile" / "ran").exists()


def test_secrets_are_in_no_command_line_and_no_readable_file(stack):
    secrets = {stack.api_key}
    for process in (stack.child(*REDIS), stack.child("-m", "worker")):
        environment = process.environ()
        secrets |= {environment[name] for name in ("BNLAB_REDIS_PASSWORD", "BNLAB_REDIS_URL") if name in environment}
    assert len(secrets) == 3
    lines = [
        " ".join(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]
    ]
    assert not [line for line in lines for secret in secrets if secret in line]
    data = Path(stack.facts["data_dir"])
    files = existing(data)
    assert {"api_key", "bnlab.sqlite3", "bnlab.sqlite3-wal", "bnlab.sqlite3-shm", "worker.log"} <= {
        path.name for path in files
    }
    assert [path for path, mode in files.items() if mode & 0o077] == []
    assert "was open to other users" in (stack.place / "stderr").read_text()


def test_no_child_holds_the_pipe_of_another(stack):
    """Only `bnlab` has write ends: a child that held one would keep its sibling alive."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    children = psutil.Process(stack.process.pid).children()
    lifelines = {os.readlink(f"/proc/{child.pid}/fd/0"): child.pid for child in children}
    assert len(lifelines) == len(children) == 3 + stack.facts["workers"]
    for child in children:
        assert set(opened(child)).isdisjoint(lifelines), child


def test_a_taken_port_is_said_before_anything_starts_or_is_written(bnlab, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = bnlab("up", "--port", str(port), "--data-dir", str(tmp_path / "data"))
        assert refused.process.wait(END_SECONDS) == 3
    complaint = (tmp_path / "stderr").read_text()
    assert f":{port}: " in complaint
    assert "--port 0, or PORT=0 with make, takes a free port" in complaint
    assert not (tmp_path / "data").exists()
    refused.assert_nothing_left()


def test_a_stack_that_cannot_start_says_why(bnlab, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "bnlab.sqlite3").write_text("this is no database " * 100)
    failed = bnlab("up", "--port", "0", "--data-dir", str(data))
    assert failed.process.wait(END_SECONDS) == 4
    assert "not a database" in (tmp_path / "stderr").read_text()
    failed.assert_nothing_left()


def hostile(folder: Path) -> Path:
    """A folder that holds what our processes import by name; whatever is imported from it leaves a file `ran`."""
    code = "import pathlib; pathlib.Path(__file__.split('hostile')[0], 'hostile', 'ran').touch()\n"
    for package in ("worker", "store", "bncore", "client", "migrations", "torch", "celery"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(code)
        (folder / package / "__main__.py").write_text(code)
    for module in ("api", "celeryconfig", "sitecustomize", "usercustomize", "numpy", "json"):
        (folder / f"{module}.py").write_text(code)
    return folder


def until_training(client, experiment_id: str, attempt: int = 1) -> None:
    """Return once a step has been taken in that attempt."""
    deadline = time.monotonic() + START_SECONDS
    while (found := client.results(experiment_id))["phase"] != "training" or found["attempt"] != attempt:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def server_of(wrapper: psutil.Process) -> tuple[psutil.Process, int]:
    (server,) = wrapper.children()
    return server, int(wrapper.environ()["BNLAB_REDIS_PORT"])


def wait_for_new(stack, words, old: int, port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = stack.child(*words)
        if found.pid != old and server_is_up(port):
            return int(found.environ()["BNLAB_REDIS_PORT"]) == port
        time.sleep(0.05)
    return False


def server_is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def opened(process: psutil.Process) -> Iterator[str]:
    """What a process has open but its standard input; it goes on opening and closing meanwhile."""
    for entry in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if entry != "0":
                yield os.readlink(f"/proc/{process.pid}/fd/{entry}")


def existing(folder: Path) -> dict[Path, int]:
    """The modes of a folder and of all in it; whoever works there goes on making and removing files meanwhile."""
    found = {}
    for inner, _, names in os.walk(folder):
        for path in (Path(inner), *(Path(inner, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):
                found[path] = path.stat().st_mode
    return found
