"""The process beside this one: started when something is asked of it, ended when nothing is for a while.

Invariant: whoever asks waits for a turn before anything is read for it, so that one request's data are in memory at a
time; a process that dies, or takes too much CPU time, costs the one who waits for it an error, and nobody else. What
comes of a question does not hang on how busy the machine is; the clock ends only what stands still.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request

from api.aside.line import Line
from api.aside.messages import LENGTH, head_of
from api.lanes import unless_left
from api.refusals import AsideBusy, AsideLost, AsideRefused
from store.settings import PREFIX

_LOG = structlog.get_logger("api")
_MOST_TURNS = 500
"""Then it starts anew: what a library does not give back does not add up."""


@dataclass(frozen=True)
class Limits:
    """What may be asked of it; `api.settings` says what each means."""

    cpu_seconds: float
    stuck_seconds: float
    wait_seconds: float
    waiting: int
    idle_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Work:
    """A JSON object and bytes for a function."""

    asked: dict[str, Any]
    blobs: Sequence[bytes] = ()


class Aside:
    """One child at most, and a line before it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line = Line()
        self._child: _Child | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, request: Request, owner: str, function: str, prepare: Callable[[], Awaitable[Work]]) -> bytes:
        """What `function`, named `module:function`, makes of what `prepare` reads once it is this caller's turn.

        Raises `AsideBusy` when too many wait, of this owner half as many, or for too long; `AsideLost` when the process
        died, took too much CPU time or stood still; `AsideRefused` with what the function raised, if that has a `code`;
        `ClientDisconnect` when the client of the request leaves, which is dropped if it still waits.
        """
        return await unless_left(request, self._run(owner, function, prepare))

    def close(self) -> None:
        """End the process."""
        if self._idle is not None:
            self._idle.cancel()
        self._end_child()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._child is None else self._child.pid

    @property
    def is_busy(self) -> bool:
        """Whether it is somebody's turn."""
        return self._line.is_taken

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._line.waiting

    async def _run(self, owner: str, function: str, prepare: Callable[[], Awaitable[Work]]) -> bytes:
        await self._acquire(owner)
        left = asyncio.Event()
        turn = asyncio.ensure_future(self._take_turn(function, prepare, left))
        # Also when the caller has left: the answer is read to its end before the next question.
        turn.add_done_callback(self._pass_on)
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            left.set()
            raise

    async def _acquire(self, owner: str) -> None:
        # No owner fills the line for all others.
        if self.waiting >= self._limits.waiting or self._line.waiting_of(owner) >= max(1, self._limits.waiting // 2):
            raise AsideBusy
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._line.acquire(owner)
        except TimeoutError:
            raise AsideBusy from None

    def _pass_on(self, turn: "asyncio.Future[bytes]") -> None:
        self._line.release()
        if not turn.cancelled():
            # Heard, though nobody may wait any more.
            turn.exception()

    async def _take_turn(self, function: str, prepare: Callable[[], Awaitable[Work]], left: asyncio.Event) -> bytes:
        if self._idle is not None:
            self._idle.cancel()
        try:
            work = await prepare()
            if left.is_set():
                return b""
            return await self._exchange(function, work)
        finally:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._limits.idle_seconds, self._end_idle)

    async def _exchange(self, function: str, work: Work) -> bytes:
        if self._child is None or self._child.is_over:
            self._end_child()
            self._child = await _Child.start(self._limits)
        try:
            async with asyncio.timeout(self._limits.stuck_seconds):
                said, answer = await self._child.ask(function, work)
        except (asyncio.IncompleteReadError, OSError, TimeoutError) as error:
            _LOG.error("aside_lost", function=function, reason=type(error).__name__)
            self._end_child()
            raise AsideLost from None
        except BaseException:
            # Nobody knows how far the exchange came.
            self._end_child()
            raise
        if "failed" in said:
            raise RuntimeError(f"{function} failed beside this process:\n{said['failed']}")
        if "refused" in said:
            raise AsideRefused(said["refused"], said["detail"], said["field"])
        return answer

    def _end_idle(self) -> None:
        if not self._line.is_taken:
            self._end_child()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._turns = 0

    @classmethod
    async def start(cls, limits: Limits) -> "_Child":
        ours, theirs = socket.socketpair()
        # It needs no address and no password of a database.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "api.aside", str(limits.memory_bytes), str(limits.cpu_seconds)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C in the terminal is not for it.
                start_new_session=True,
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """It is gone, or has worked for long enough."""
        return self._turns >= _MOST_TURNS or self._process.poll() is not None

    async def ask(self, function: str, work: Work) -> tuple[dict[str, Any], bytes]:
        self._turns += 1
        self._writer.write(head_of({"function": function, "asked": work.asked}, work.blobs))
        for blob in work.blobs:
            self._writer.write(blob)
            await self._writer.drain()
        await self._writer.drain()
        length = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
        said: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        (size,) = said["sizes"]
        return said, await self._reader.readexactly(size)

    def end(self) -> None:
        """Kill it: it holds nothing that anybody misses."""
        self._writer.close()
        self._process.kill()
        # Heard elsewhere: the memory of a process takes the kernel its time.
        threading.Thread(target=self._process.wait, name="aside end", daemon=True).start()
