"""A thread that tells the database that this process lives, what it is and what it runs.

Invariant: the heart beats whatever the rest of the process is busy with, and an outage of the database or the broker
never ends it.
"""

import os
import socket
from collections.abc import Callable, Mapping

import structlog

from store import processes
from store.database import Database
from store.processes import Heartbeat
from worker.broker import Broker
from worker.device import Device
from worker.outage import in_a_line
from worker.repeating import Repeating

log = structlog.get_logger()


class Heart:
    """Beats from `start` to `stop`, which says goodbye."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        kind: str,
        process_id: str,
        every_seconds: float,
        versions: Mapping[str, str],
        device: Device | None = None,
        working_on: Callable[[], str | None] = lambda: None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._database = database
        self._broker = broker
        self._kind = kind
        self._process_id = process_id
        self._versions = versions
        self._device = device
        self._working_on = working_on
        self._trouble = trouble
        self._beats = Repeating("heartbeat", self._beat, every_seconds)

    def start(self) -> None:
        self._beats.start()

    def stop(self) -> None:
        self._beats.stop()
        try:
            with self._database.write() as session:
                processes.leave(session, self._process_id)
        except Exception as error:
            log.info("left_without_goodbye", error=in_a_line(error))

    def _beat(self) -> None:
        heartbeat = Heartbeat(
            id=self._process_id,
            kind=self._kind,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=self._device.kind if self._device else None,
            device_model=self._device.model if self._device else None,
            versions=self._versions,
            broker_ok=self._broker.answers(),
            job_id=self._working_on(),
            trouble=self._trouble(),
        )
        with self._database.write() as session:
            processes.beat(session, heartbeat)
