"""The service with all it stands on: real servers and processes, and between them ports that can be cut.

Invariant: each process reaches the database and the broker through ports of its own, so that one can be cut off while
the others are not; we ourselves look at the database past them.
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.chaos.disk import NoSmallDisk, SmallDisk
from bench.chaos.ledger import Ledger
from bench.chaos.monitor import Monitor
from bench.chaos.processes import Processes
from bench.chaos.schedule import DatabaseKind
from bench.chaos.servers import PostgreSql, Redis
from store import keys, migrate
from tests.conftest import free_port
from tests.proxy import Proxy
from tests.stack import Stack

WORKERS = ("worker-1", "worker-2")
NAMES = ("api", "relay", *WORKERS)
# Short, so that much happens; every other rule is the real one.
_SETTINGS = {
    "BNLAB_LEASE_SECONDS": "3",
    "BNLAB_TICK_SECONDS": "0.5",
    "BNLAB_FLUSH_SECONDS": "0.2",
    "BNLAB_HEARTBEAT_SECONDS": "0.5",
    "BNLAB_GRACE_SECONDS": "5",
    "BNLAB_REAP_SECONDS": "0.5",
    "BNLAB_RERING_SECONDS": "0.5",
    "BNLAB_PURGE_SECONDS": "2",
    "BNLAB_PREDICTION_SECONDS": "2",
    "BNLAB_SPARE_BYTES": str(4 << 20),
    "OMP_NUM_THREADS": "1",
}


class Scene:
    """Everything there is, from entering it to leaving it."""

    def __init__(self, directory: Path, database: DatabaseKind) -> None:
        self.directory = directory
        self.kind = database
        self.ledger = Ledger()
        self.monitor = Monitor(directory)
        self.no_small_disk: str | None = None
        self.disk: SmallDisk | None = None
        self.postgresql: PostgreSql | None = None
        self.proxies: dict[tuple[str, str], Proxy] = {}
        """By process and what it reaches: database or redis; and `("api", "clients")`, before the API."""
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as building:
            self._build(building)
            self._exits = building.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.close()

    @property
    def sqlite_path(self) -> Path:
        return self.directory / "bnlab.db"

    @property
    def runs_dir(self) -> Path:
        return self.directory / "runs"

    def _build(self, exits: ExitStack) -> None:
        try:
            self.disk = SmallDisk(self.runs_dir)
            exits.callback(self.disk.remove)
        except NoSmallDisk as error:
            self.no_small_disk = str(error)
        self.redis = Redis(self.directory / "redis")
        self.redis.start()
        exits.callback(self.redis.kill)
        self.database_url = self._database(exits)
        migrate.upgrade(self.database_url)
        environments = {name: self._environment(name, exits) for name in NAMES}
        self.stack = exits.enter_context(Stack(self.directory, self.database_url, "redis://", **_SETTINGS))
        self.processes = Processes(self.stack, environments)
        exits.callback(self.processes.let_be)
        with self.stack.database.write() as session:
            self.api_key = keys.create(session, "chaos").secret

    def _database(self, exits: ExitStack) -> str:
        if self.kind == "sqlite":
            return f"sqlite:///{self.sqlite_path}"
        self.postgresql = PostgreSql()
        exits.callback(self.postgresql.delete)
        self.postgresql.start()
        return self.postgresql.url()

    def _environment(self, name: str, exits: ExitStack) -> dict[str, str]:
        redis = self._proxy((name, "redis"), self.redis.connect, exits)
        found = {"BNLAB_REDIS_URL": self.redis.url(redis.port)}
        if self.postgresql is not None:
            database = self._proxy((name, "database"), self.postgresql.connect, exits)
            found["BNLAB_DATABASE_URL"] = self.postgresql.url(database.port)
        if name == "api":
            port = free_port()
            found["BNLAB_PORT"] = str(port)
            clients = self._proxy(("api", "clients"), _to(port), exits)
            self.api_url = f"http://127.0.0.1:{clients.port}"
        return found

    def _proxy(self, place: tuple[str, str], connect: Callable[[], socket.socket], exits: ExitStack) -> Proxy:
        self.proxies[place] = proxy = Proxy(connect)
        exits.callback(proxy.cut)
        return proxy


def _to(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port))
