"""The small parts under the local stack."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import client
from client.local.capacity import default_workers
from client.local.child import Child
from client.local.environment import child_environment
from client.local.lock import DirectoryInUse, DirectoryLock, holder_of
from client.local.packages import require_together
from client.local.places import Places, data_dir_of
from client.local.ports import PortTaken, free_port, listening

ROOT = Path(client.__file__).resolve().parents[1]


def test_children_get_the_users_environment_without_what_would_configure_them():
    base = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "BNLAB_PORT": "1", "CELERY_BROKER_URL": "x"}
    base |= {"PYTHONPATH": "x", "WEB_CONCURRENCY": "4", "UVICORN_PORT": "1"}
    made = child_environment(base, {"port": 8000})
    kept = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1"}
    assert made == kept | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "BNLAB_PORT": "8000"}


def test_a_lock_says_who_holds_it_and_is_free_afterwards(tmp_path):
    path = tmp_path / "lock"
    with DirectoryLock(path) as lock:
        lock.describe(url="http://here")
        assert holder_of(path) == {"pid": os.getpid(), "url": "http://here"}
        with pytest.raises(DirectoryInUse, match=rf"process {os.getpid()}, serving http://here"), DirectoryLock(path):
            pass
    assert holder_of(path) == {}
    with DirectoryLock(path):
        assert holder_of(path) == {"pid": os.getpid()}


def test_what_a_dead_holder_wrote_counts_for_nothing(tmp_path):
    path = tmp_path / "lock"
    path.write_text('{"pid": 1, "url": "http://gone"}')
    assert holder_of(path) == {}
    assert holder_of(tmp_path / "no such file") == {}


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path):
    places = Places(tmp_path / "data")
    places.create()
    key = places.api_key()
    assert key.startswith("bnl_")
    assert places.api_key() == key
    assert places.api_key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in places.data_dir.iterdir() if path.is_file()] == ["api_key"]


def test_the_data_directory_can_be_named_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BNLAB_DATA_DIR", str(tmp_path))
    assert data_dir_of() == tmp_path
    assert data_dir_of(tmp_path / "named") == tmp_path / "named"
    monkeypatch.delenv("BNLAB_DATA_DIR")
    assert "bnlab" in data_dir_of().parts


def test_a_taken_port_is_refused_and_a_free_one_is_not():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken, match="in use"):
        listening("127.0.0.1", other.getsockname()[1], 0.2)
    (listener,) = listening("127.0.0.1", free_port(), 0.0)
    listener.close()


@pytest.fixture
def listeners():
    """What `listening` gives, closed at the end."""
    with contextlib.ExitStack() as until:
        yield lambda host, port: [until.enter_context(one) for one in listening(host, port, 0.0)]


def test_of_several_that_take_one_port_at_once_one_has_it(listeners):
    port, barrier = free_port(), threading.Barrier(8)

    def take(_: int) -> bool:
        barrier.wait()
        try:
            return bool(listeners("127.0.0.1", port))
        except PortTaken:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_who_connects_before_a_child_accepts_waits_and_the_port_is_free_at_once_after(listeners):
    (listener,) = listeners("127.0.0.1", 0)
    address = listener.getsockname()
    with socket.create_connection(address) as waiting:
        listener.accept()[0].close()  # by us: what remains of the connection is the port's
        assert waiting.recv(1) == b""
    listener.close()
    assert [one.getsockname() for one in listeners(*address)] == [address]


@pytest.mark.parametrize("host", ["", "localhost", "::1"])
def test_all_addresses_of_a_host_have_one_port(listeners, host):
    try:
        found = listeners(host, 0)
    except PortTaken as error:
        pytest.skip(str(error))
    named = {one[4][0] for one in socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)}
    assert {one.getsockname()[0] for one in found} <= named
    (port,) = {one.getsockname()[1] for one in found}
    for one in found:
        loopback = "::1" if one.family == socket.AF_INET6 else "127.0.0.1"
        socket.create_connection((loopback, port)).close()
    with pytest.raises(PortTaken, match="in use"):
        listeners(host, port)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port that is held cannot be listened on")
def test_a_free_port_is_nobody_elses_before_between_and_after_who_listens_there():
    port = free_port()
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass


@pytest.fixture
def child(tmp_path):
    """Make children that run a line of Python; they end with the test."""
    made = []

    def make(code: str, **options) -> Child:
        (tmp_path / "child_under_test.py").write_text(code)
        environment = {"PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
        made.append(Child("test", ["child_under_test"], environment, tmp_path / "test.log", **options))
        return made[-1]

    yield make
    for each in made:
        each.stop(lambda: True)


def test_a_child_that_dies_is_started_again_and_that_is_told(child):
    told, twice = [], threading.Event()

    def notice(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            twice.set()

    child("print('here'); raise SystemExit(7)", notice=notice).start()
    assert twice.wait(120.0)
    assert "code 7" in told[0]


def test_a_child_that_cannot_be_started_says_so_and_is_tried_again(child, tmp_path):
    told, first = [], threading.Event()

    def notice(text: str) -> None:
        told.append(text)
        first.set()

    (tmp_path / "test.log").mkdir()
    never = child("print('here')", notice=notice)
    never.start()
    assert first.wait(120.0)
    assert "could not be started" in told[0]
    assert "Is a directory" in told[0]
    assert never.exit_code is None


def test_what_a_child_has_logged_is_its_own_and_of_now(child, tmp_path):
    line = "import os, json, signal; print(json.dumps({'event': 'started', 'pid': os.getpid()})); signal.pause()"
    (tmp_path / "test.log").write_text('{"event": "started", "pid": 1}\nno json\n[1]\n')
    talking = child(line)
    assert not talking.has_logged("started")
    talking.start()
    while not talking.has_logged("started"):
        assert not talking.join(0.02)
    assert not talking.has_logged("stopped")


def test_there_is_a_worker_a_core_and_one_for_a_gpu():
    assert default_workers("cuda") == 1
    assert 1 <= default_workers("cpu") <= (os.cpu_count() or 1)
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from client.local.capacity import default_workers as n; print(n('cpu'))"
    if sys.platform == "linux":
        assert subprocess.check_output([sys.executable, "-c", code]) == b"1\n"


def test_packages_that_do_not_lie_together_are_refused(tmp_path):
    require_together()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(Path(client.__file__).parent, elsewhere / "client")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from client.local.packages import *; require_together()"
    done = subprocess.run([sys.executable, "-P", "-c", code, elsewhere], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert f"this is {elsewhere}" in last
    assert f"worker in {ROOT / 'worker' / '__init__.py'}" in last


def test_a_child_that_ignores_sigterm_is_killed_after_its_time(child):
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); signal.pause()"
    deaf = child(code, stop_seconds=0.3)
    deaf.start()
    while "deaf" not in deaf.log_tail():
        assert not deaf.join(0.02)
    deaf.stop(lambda: False)
    assert deaf.exit_code == -9


def test_a_log_that_has_grown_large_is_moved_aside_before_a_start(child, tmp_path, monkeypatch):
    monkeypatch.setattr("client.local.child.LOG_BYTES", 10)
    log = tmp_path / "test.log"
    log.write_text("old " * 10)
    again = child("print('new')", once=True)
    again.start()
    assert again.join(120.0)
    assert (tmp_path / "test.log.1").read_text() == "old " * 10
    assert log.read_text() == "new\n"
