"""Several API processes that serve one port, and the parent that holds them together.

Not uvicorn's own `workers`: its processes outlive a parent that is killed, one that cannot start is started again
twice a second for ever, and its end has no limit.

Invariant: the port is bound once, here. A connection that comes while a process is dead or stands still is taken by
another one, or waits for the next; for that they share one queue, which spreads many connections among them, and a few
as it happens. No process is there without this one: at its end, however it comes, the kernel kills
them (Linux), and their standard input ends.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable

import structlog

from api.settings import ApiSettings
from bncore.lifeline import exit_on_eof

START_FAILED = 3
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_SETTLED_SECONDS = 10.0
"""One that lived this long is not what keeps the service from starting."""
_FATAL_DEATHS = 3
_GOOD_ENDS = (0, -signal.SIGTERM)
"""The second is that of a process which was told to go before it could say what it does then."""

_LOG = structlog.get_logger("api")


def run(settings: ApiSettings, ending: Callable[[], object]) -> int:
    """Keep `settings.api_processes` of them running until told to go; the exit code.

    `ending` is called, maybe more than once, as soon as the end is asked for.
    """
    return asyncio.run(_Siblings(settings, ending).run())


class _Siblings:
    def __init__(self, settings: ApiSettings, ending: Callable[[], object]) -> None:
        self._settings = settings
        self._ending = ending
        self._lifeline, self._held_end = os.pipe()
        self._listener: asyncio.Server | None = None
        self._started: dict[Process, float] = {}
        self._told = asyncio.Event()
        self._deaths = 0
        self._failed = False

    async def run(self) -> int:
        self._hear_the_end()
        try:
            # Bound, not listening: the processes do that, so that nobody is connected before one can answer.
            self._listener = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, self._settings.host, self._settings.port, start_serving=False
            )
        except OSError as error:
            _LOG.error("cannot_listen", error=str(error))
            return START_FAILED
        sockets = [socket.fileno() for socket in self._listener.sockets]
        codes = await asyncio.gather(*(self._keep(sockets) for _ in range(self._settings.api_processes)))
        if self._failed:
            return START_FAILED
        return 0 if all(code in _GOOD_ENDS for code in codes) else 1

    def _hear_the_end(self) -> None:
        loop = asyncio.get_running_loop()

        def told(*_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all is over
                loop.call_soon_threadsafe(self._end)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)
        if self._settings.exit_on_eof:
            exit_on_eof(sys.stdin.fileno(), lambda: told())

    def _end(self) -> None:
        self._ending()
        self._told.set()
        if self._listener is not None:
            # Nobody would come for those who wait there.
            self._listener.close()
        for process in self._started:
            _terminate(process)

    async def _keep(self, sockets: list[int]) -> int:
        """Run one, and another one when it dies; the code of the last."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not self._told.is_set():
            began = time.monotonic()
            code = await self._run_once(sockets)
            if self._told.is_set():
                return code
            if time.monotonic() - began > _SETTLED_SECONDS:
                pause_seconds = _FIRST_PAUSE_SECONDS
                self._deaths = 0
            elif code > 0:
                # Not one that was killed, which says nothing of whether the next can start.
                self._count_death()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        return 0

    async def _run_once(self, sockets: list[int]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "api"),
                stdin=self._lifeline,
                pass_fds=sockets,
                env={**os.environ, "BNLAB_API_SOCKETS": json.dumps(sockets)},
                # Ctrl-C in the terminal reaches this process alone, which passes it on once.
                start_new_session=True,
            )
        except OSError as error:
            _LOG.error("process_not_started", error=str(error))
            return 1
        self._started[process] = time.monotonic()
        if self._told.is_set():
            _terminate(process)
        code = await process.wait()
        del self._started[process]
        if not self._told.is_set():
            _LOG.error("process_ended", pid=process.pid, code=code)
        return code

    def _count_death(self) -> None:
        """Give up when nothing comes to stand: whoever started this process should know."""
        settled = time.monotonic() - _SETTLED_SECONDS
        if any(began < settled for began in self._started.values()):
            self._deaths = 0
            return
        self._deaths += 1
        if self._deaths >= _FATAL_DEATHS:
            self._failed = True
            self._end()


def _terminate(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
