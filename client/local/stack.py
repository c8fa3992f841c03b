"""Redis, migrated database, API, relay and workers on this machine, started and stopped in order.

Nothing survives its `bnlab`: see `child`. Nothing is configured by hand: ports and passwords are made here, and passed
on in environments.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from client.errors import ClientError
from client.http import Client
from client.local.child import Child
from client.local.environment import child_environment
from client.local.interrupts import Interrupted, Interrupts
from client.local.lock import DirectoryLock, holder_of
from client.local.packages import require_together
from client.local.places import Places
from client.local.ports import PortTaken, free_port, listening

READY_WORDS = ("database", "broker", "relay", "workers")
START_SECONDS = 120.0
"""The first start after an installation compiles and reads everything from a cold disk."""
PORT_WAIT_SECONDS = 2.0
GRACE_SECONDS = 120.0
FATAL_DEATHS = 3


class StackFailed(Exception):
    """The stack did not come up; the text says which part, and what it last wrote."""


@dataclass(frozen=True)
class StackSettings:
    """Where the stack lives and listens. Port 0 takes a free one."""

    places: Places
    host: str = "127.0.0.1"
    port: int = 0
    device: str = "auto"
    workers: int = 1
    grace_seconds: float = GRACE_SECONDS
    notice: Callable[[str], object] = lambda _: None


@contextmanager
def running(settings: StackSettings, interrupts: Interrupts) -> Iterator["Stack"]:
    """The stack, ready, with its data directory locked; stopped in order at the end however that comes.

    Raises `PackagesApart`, `DirectoryUnusable`, `DirectoryInUse`, `PortTaken`, `StackFailed`.
    """
    require_together()
    # Before anything is written.
    with contextlib.ExitStack() as ending:
        listeners = _listening(settings)
        for listener in listeners:
            ending.enter_context(listener)
        if settings.places.create():
            settings.notice(f"{settings.places.data_dir} was open to other users; it is closed to them now.")
        ending.enter_context(_files_for_us_alone())
        lock = ending.enter_context(DirectoryLock(settings.places.lock_file))
        stack = Stack(settings, listeners)
        try:
            stack.start()
            lock.describe(url=stack.url)
            yield stack
        except Interrupted:
            # Whoever asked may have closed the terminal; the orderly end comes all the same.
            with contextlib.suppress(OSError, SystemExit):
                settings.notice("Stopping; what trains is saved first. Asked a second time, it stops without saving.")
            raise
        finally:
            interrupts.hold()
            stack.stop(interrupts.hurry)


def _listening(settings: StackSettings) -> list[socket.socket]:
    """Raises `PortTaken`, and `DirectoryInUse` where its holder is known: that has more to say than the port."""
    lock = settings.places.lock_file
    try:
        return listening(settings.host, settings.port, 0.0 if holder_of(lock) else PORT_WAIT_SECONDS)
    except PortTaken:
        if holder_of(lock):
            with DirectoryLock(lock):
                pass
        raise


@contextmanager
def _files_for_us_alone() -> Iterator[None]:
    """Whatever we and our children write, logs and databases and runs, is closed to others from its first byte."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class Stack:
    """The processes of one data directory, whose lock the caller holds."""

    def __init__(self, settings: StackSettings, listeners: Sequence[socket.socket]) -> None:
        """`listeners` are those of the API, which accepts there; they are closed at the end."""
        self._settings = settings
        self._places = settings.places
        self._listeners = listeners
        self.port = int(listeners[0].getsockname()[1])
        self.api_key = self._places.api_key()
        self._redis_port = free_port()
        self._redis_password = secrets.token_urlsafe(24)
        self._children: list[Child] = []

    @property
    def url(self) -> str:
        """How a client on this machine reaches the API."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Start everything and wait until each part says that it is well. Raises `StackFailed`."""
        deadline = time.monotonic() + START_SECONDS
        workers = f"{self._settings.workers} worker{'s' * (self._settings.workers > 1)}"
        self._settings.notice(f"Starting Redis, database, API, relay and {workers} ...")
        self._begin(
            "redis", "client.local.redis_server", redis_password=self._redis_password, redis_port=self._redis_port
        )
        self._migrate(deadline)
        accepting = [listener.fileno() for listener in self._listeners]
        self._begin("api", "api", descriptors=accepting, api_sockets=accepting, requests_per_second=0)
        self._begin("relay", "worker.relay", redis_url=self._redis_url)
        for number in range(1, self._settings.workers + 1):
            self._begin(
                "worker" if number == 1 else f"worker-{number}",
                "worker",
                stop_seconds=self._settings.grace_seconds + 30.0,
                redis_url=self._redis_url,
                device=self._settings.device,
                runs_dir=self._places.runs_dir,
                grace_seconds=self._settings.grace_seconds,
            )
        self._wait_until_ready(deadline)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop what runs: first who accepts work, then who rings, who works, and the broker under them all."""
        for listener in self._listeners:
            # Nobody would come for those who wait there.
            listener.close()
        for kind in ("api", "relay", "worker", "redis", "migrate"):
            ending = [child for child in self._children if child.name.partition("-")[0] == kind]
            for child in ending:
                child.ask_to_end()
            for child in ending:
                child.stop(hurry)

    @property
    def _redis_url(self) -> str:
        return f"redis://:{self._redis_password}@127.0.0.1:{self._redis_port}/0"

    def _begin(
        self,
        name: str,
        module: str,
        *words: str,
        once: bool = False,
        stop_seconds: float = 15.0,
        descriptors: Sequence[int] = (),
        **settings: Any,
    ) -> Child:
        environment = child_environment(
            os.environ,
            {
                "data_dir": self._places.data_dir,
                "database_url": self._places.database_url,
                "log_format": "json",
                "exit_on_eof": 1,
                **settings,
            },
        )
        log = self._places.logs_dir / f"{name}.log"
        child = Child(
            name,
            [module, *words],
            environment,
            log,
            once=once,
            stop_seconds=stop_seconds,
            descriptors=descriptors,
            notice=self._settings.notice,
        )
        self._children.append(child)
        child.start()
        return child

    def _migrate(self, deadline: float) -> None:
        child = self._begin("migrate", "store", "migrate", once=True, bootstrap_api_key=self.api_key)
        ended = child.join(max(0.0, deadline - time.monotonic()))
        if not ended or child.exit_code != 0:
            raise _failure(child, "did not finish" if not ended else child.last_end)
        self._children.remove(child)

    def _wait_until_ready(self, deadline: float) -> None:
        words: dict[str, Any] = {}
        with Client(self.url, self.api_key, timeout_seconds=5.0, retry_seconds=0) as client:
            while not self._all_well(words):
                for child in self._children:
                    if child.deaths >= FATAL_DEATHS:
                        raise _failure(child, f"ended {child.deaths} times and last {child.last_end}")
                if time.monotonic() > deadline:
                    said = ", ".join(f"{word} {words.get(word, 'silent')}" for word in (*READY_WORDS, "devices"))
                    raise StackFailed(
                        f"not ready after {START_SECONDS:g} seconds: {said}; logs: {self._places.logs_dir}"
                    )
                time.sleep(0.05)
                words = _readiness(client)

    def _all_well(self, words: dict[str, Any]) -> bool:
        if any(words.get(word) != "ok" for word in READY_WORDS):
            return False
        # For a while the server counts workers of a stack that was killed here before: ours must be among them.
        workers = [child for child in self._children if child.name.startswith("worker")]
        return sum(words["devices"].values()) >= len(workers) and all(child.has_logged("started") for child in workers)


def _readiness(client: Client) -> dict[str, Any]:
    try:
        return client.readyz()
    except ClientError:
        return {}


def _failure(child: Child, what: str) -> StackFailed:
    return StackFailed(f"{child.name} {what}. The end of {child.log}:\n{child.log_tail()}")
