"""The server around the application: how it starts, watches over its connections, and ends.

Invariant: at shutdown no request keeps the process: waiting ones are woken, running ones have a grace period, and what
then still runs is cancelled.
"""

import asyncio
import functools
import os
import resource
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from api.connections import Connection, Limits
from api.service import ApiService
from api.settings import ApiSettings

_LOG = structlog.get_logger("api")
_SWEEP_SECONDS = 0.5
_RESERVED_FILES = 128
"""For the database, the log, libraries, and connections that are just being refused."""
_MOST_CONNECTIONS = 4096


class Server(uvicorn.Server):
    """uvicorn, which says that it is about to end before it waits for anything."""

    def __init__(self, app: FastAPI, ending: Callable[[], object] = lambda: None) -> None:
        """`ending` is called, from any thread and maybe more than once, as soon as the end is asked for."""
        service = app.state.service
        assert isinstance(service, ApiService)
        self._service = service
        self._ending = ending
        self._sweeper: asyncio.Task[None] | None = None
        self._refused = 0
        settings = service.settings
        protocol: Any = functools.partial(Connection, _limits(settings), self._count_refused)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]  # passed on to call_later
                timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _LOG.info("serving", pid=os.getpid(), sockets=[it.getsockname()[:2] for it in self._listening()])
        self._sweeper = asyncio.create_task(self._sweep())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        self._service.changes.wake_all()
        await super().shutdown(sockets)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Begin to shut down, from any thread."""
        self._ending()
        self.should_exit = True

    async def _sweep(self) -> None:
        """End connections that let a deadline pass; one look at all of them costs less than a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.sweep(now)
            refused, self._refused = self._refused, 0
            if refused:
                # One line for all: those who are refused come in crowds.
                _LOG.warning("connections_refused", count=refused, open=len(self.server_state.connections))

    def _listening(self) -> Iterator[Any]:
        for server in self.servers:
            yield from server.sockets

    def _count_refused(self) -> None:
        self._refused += 1


def _limits(settings: ApiSettings) -> Limits:
    return Limits(
        connections=settings.max_connections or _connections_that_fit(),
        first_byte_seconds=settings.first_byte_seconds,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        min_body_rate=settings.min_body_rate,
        stall_seconds=settings.stall_seconds,
    )


def _connections_that_fit() -> int:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, open_files - _RESERVED_FILES))
