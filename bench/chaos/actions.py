"""Doing what the schedule says, when it says it.

Invariant: whatever was taken away is given back, at the latest when the time is over; an action whose object somebody
else is at, or that finds nothing, is noted as such and changes nothing.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from bench.chaos import on_data, on_processes, on_servers
from bench.chaos.ledger import Deed
from bench.chaos.on_processes import NothingThere
from bench.chaos.processes import Busy
from bench.chaos.scene import Scene
from bench.chaos.schedule import Action
from store.errors import StoreError

Handler = Callable[[Scene, Action, threading.Event], str]

_HANDLERS: dict[str, Handler] = {
    "trainer_": on_processes.trainer,
    "zygote_": on_processes.zygote,
    "worker_killed_while_trainer_stopped": on_processes.worker_killed_while_trainer_stopped,
    "worker_and_trainer_": on_processes.worker_and_trainer,
    "worker_": on_processes.worker,
    "relay_": on_processes.relay,
    "api_answers_lost": on_servers.connections,
    "api_": on_processes.api,
    "redis_connections_": on_servers.connections,
    "redis_answers_": on_servers.connections,
    "redis_": on_servers.redis,
    "postgresql_": on_servers.postgresql,
    "database_": on_servers.connections,
    "tables_locked": on_data.lock,
    "disk_filled": on_servers.disk,
    "checkpoint_damaged": on_data.damage,
    "job_retried": on_data.retry,
    "job_": on_data.wish,
}
"""By the beginning of an action's kind; the longest that fits counts."""

# These have one object each, and no lock of their own.
_ONE_AT_A_TIME = ("redis_", "postgresql_", "database_", "api_answers_", "tables_", "disk_")


class Actions:
    """Each in a thread of its own, since most of them last."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._single = {beginning: threading.Lock() for beginning in _ONE_AT_A_TIME}

    def perform(self, actions: Sequence[Action]) -> None:
        """Returns when the last one has begun."""
        began = time.monotonic()
        for action in actions:
            time.sleep(max(0.0, began + action.at_seconds - time.monotonic()))
            thread = threading.Thread(target=self._do, args=(action,), name=action.kind, daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self, seconds: float) -> list[str]:
        """Have everything given back; the names of actions that did not end in that time."""
        self._ending.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _do(self, action: Action) -> None:
        at = time.time()
        outcome, what = "done", ""
        try:
            what = self._alone(action)
        except NothingThere as error:
            outcome, what = "nothing there", str(error)
        except Busy as error:
            outcome, what = "busy", str(error)
        except (SQLAlchemyError, psycopg.Error, sqlite3.Error, OSError) as error:
            outcome, what = "did not get through", (str(error).splitlines() or [""])[0]
        except StoreError as error:
            outcome, what = "refused", str(error)
        except Exception as error:
            outcome, what = "broke", f"{type(error).__name__}: {error}"
        self._scene.ledger.note(Deed(action.number, action.kind, at, outcome, what))

    def _alone(self, action: Action) -> str:
        handler = _HANDLERS[max((one for one in _HANDLERS if action.kind.startswith(one)), key=len)]
        single = next((one for one in _ONE_AT_A_TIME if action.kind.startswith(one)), None)
        if single is None:
            return handler(self._scene, action, self._ending)
        if not self._single[single].acquire(blocking=False):
            raise Busy(single)
        try:
            return handler(self._scene, action, self._ending)
        finally:
            self._single[single].release()
