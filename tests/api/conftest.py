"""A real server on a free port, a client with a key, and a hand that plays the worker through the store."""

import hashlib
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from api import keyring, readiness
from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from bncore.events import CheckpointSaved, Event, MetricsBlock, Started, StoredFile
from store import checkpoints, database, files, keys, results, work
from store.database import Database
from store.jobs import leases
from store.jobs.leases import Terms

LEASE_SECONDS = 60.0
# Nothing here is encrypted; by default every client reads a file of certificates.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SUMMARY = {
    "steps": 10, "seconds": 1.5, "test_accuracy": 0.9, "test_loss": 0.3, "best_test_accuracy": 0.95,
    "steps_to_target": None,
}  # fmt: skip


@dataclass
class Api:
    """A running service: its address, a client that has a key, the database behind it."""

    url: str
    port: int
    client: httpx.Client
    database: Database
    key: str
    server: Server

    def submit(self, **spec: Any) -> str:
        """The id of a new experiment."""
        answer = self.client.post("/v1/experiments", json=spec)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


class ByHand:
    """Does to an experiment what a worker would, one step at a time."""

    def __init__(self, database: Database, device: str = "cpu") -> None:
        self.database = database
        worker = leases.Worker("prc_hand", device, "some model", "2.13.0")
        with database.write() as session:
            claim = work.take(session, worker, Terms(LEASE_SECONDS), leases.new_token())
        assert claim is not None
        self.lease = claim.lease

    def start(self) -> None:
        """Training begins."""
        self.append(Started(step=0, total_steps=10, device="cpu", device_model="m", torch_version="2.13.0", threads=1))

    def append(self, *events: Event) -> leases.Go | leases.Stop:
        """Report what a trainer would write."""
        with self.database.write() as session:
            return results.append(session, self.lease, events)

    def metrics(self, first_step: int, **values: list[float]) -> None:
        """Report a block of steps; `__` in a name stands for `/`."""
        block = {key.replace("__", "/"): points for key, points in values.items()}
        count = len(next(iter(block.values())))
        self.append(MetricsBlock(first_step=first_step, count=count, values=block))

    def checkpoint(self, kind: str, step: int, weights: bytes, state: bytes | None = None) -> str:
        """Store a whole checkpoint; its id."""
        event = CheckpointSaved(
            checkpoint_kind=kind, step=step, epoch=1, metrics={"test/accuracy": 0.9}, weights=_file(weights),
            state=None if state is None else _file(state),
        )  # fmt: skip
        with self.database.write() as session:
            begun = checkpoints.begin(session, self.lease, event)
        digests = {}
        for part, file in begun.files.items():
            content = weights if part == "weights" else state
            for seq, start in enumerate(range(0, 0 if file.whole else len(content), files.CHUNK_BYTES)):
                chunk = content[start : start + files.CHUNK_BYTES]
                with self.database.write() as session:
                    files.write_chunk(session, self.lease, file.file_id, seq, chunk)
            digests[part] = files.digest(self.database, file.file_id)
        with self.database.write() as session:
            checkpoints.complete(session, self.lease, begun.id, digests)
        return begun.id

    def file(self, name: str, content: bytes, kind: str = "array", step: int | None = None) -> str:
        """Store a result file; its id."""
        announced = files.Announced(name, kind, step, len(content), hashlib.sha256(content).hexdigest())
        with self.database.write() as session:
            begun = files.begin(session, self.lease, announced)
        for seq, start in enumerate(range(0, 0 if begun.whole else len(content), files.CHUNK_BYTES)):
            chunk = content[start : start + files.CHUNK_BYTES]
            with self.database.write() as session:
                files.write_chunk(session, self.lease, begun.file_id, seq, chunk)
        with self.database.write() as session:
            files.complete(session, self.lease, begun.file_id, files.digest(self.database, begun.file_id))
        return begun.file_id

    def finish(self, outcome: work.Outcome | None = None) -> None:
        """End the attempt; by default well."""
        with self.database.write() as session:
            work.finish(session, self.lease, outcome or work.Succeeded("budget", SUMMARY))


@pytest.fixture(scope="session", autouse=True)
def _no_logs() -> Iterator[None]:
    # Servers in threads would write between the lines of the test report.
    structlog.configure(
        logger_factory=structlog.ReturnLoggerFactory(), processors=[structlog.processors.JSONRenderer()]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    # What an answer leaves out when it cannot be told soon, and what the end of a process does not wait for: on a busy
    # machine that comes later.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readiness, "_WAIT_SECONDS", 60.0)
        patch.setattr(readiness, "_PATIENCE_SECONDS", 60.0)
        patch.setattr(readiness, "_LITTLE_PATIENCE_SECONDS", 60.0)
        patch.setattr(keyring, "_LAST_NOTE_SECONDS", 60.0)
        # What tests hold while others wait for it, they hold for as long as those others take to come.
        for limit in ("CONNECT", "SILENCE", "STATEMENT", "LOCK"):
            patch.setattr(database, f"POSTGRESQL_{limit}_SECONDS", 300)
        yield


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """A service of its own for a test, on each kind of database."""
    with serving(database_url) as running:
        yield running


@pytest.fixture
def sqlite_api(sqlite_url: str) -> Iterator[Api]:
    """A service of its own for a test that no database makes a difference to."""
    with serving(sqlite_url) as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One service for all tests of a file: for requests that are refused, or only read."""
    path = tmp_path_factory.mktemp("shared_api") / "bnlab.db"
    shutil.copyfile(migrated_sqlite, path)
    with serving(f"sqlite:///{path}") as running:
        yield running


@pytest.fixture(scope="session")
def by_hand() -> Callable[[Database], ByHand]:
    """Claims the oldest queued experiment."""
    return ByHand


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """Serve any database: a context manager that yields an `Api`."""
    return serving


@contextmanager
def serving(database_url: str, **settings: Any) -> Iterator[Api]:
    # Generated requests guess keys by the hundred.
    ours = {"poll_seconds": 0.02, "readiness_cache_seconds": 0.0, "failed_keys_per_minute": 0}
    # On a busy machine everything takes longer, but what a test is about.
    patient = dict.fromkeys(("database_seconds", "first_byte_seconds", "head_seconds", "body_seconds"), 60.0)
    app = create_app(ApiSettings(database_url=database_url, port=0, **{**ours, **patient, **settings}))
    server = _ReadyServer(app)
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    assert server.ready.wait(120), "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    behind = Database(database_url)
    with behind.write() as session:
        key = keys.create(session, "test").secret
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=300.0,
        verify=_NO_AUTHORITIES,
    )
    with client:
        yield Api(str(client.base_url), port, client, behind, key, server)
    server.should_exit = True
    thread.join(120)
    behind.dispose()
    assert not thread.is_alive(), "the server did not end"


class _ReadyServer(Server):
    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.ready = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _file(content: bytes) -> StoredFile:
    return StoredFile(file="x.safetensors", size=len(content), sha256=hashlib.sha256(content).hexdigest())
