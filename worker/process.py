"""One worker for one device.

Invariant: told to go (SIGTERM, or the end of standard input if so told), it hands its experiment back with everything
saved; killed, it leaves an expiring lease and a trainer that dies with it.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable

import structlog
from celery import Celery
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.platforms import EX_OK
from celery.signals import setup_logging
from celery.worker import state

from bncore.lifeline import exit_on_eof
from store.database import Database
from store.processes import new_process_id
from store.settings import from_environment
from worker.broker import Broker
from worker.celery_app import create_celery, queue_of
from worker.device import Device, DeviceMissing, find_device, versions
from worker.heartbeat import Heart
from worker.log import configure_logging
from worker.recovery import give_back
from worker.repeating import Repeating
from worker.run_directory import abandoned, remove_leftovers
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
from worker.tasks import answer_bells, turn_event_loop

log = structlog.get_logger()

# A worker whose parent is gone has this long beyond its grace; nobody is left to kill it.
_ORPHAN_SECONDS = 30.0


def main() -> int:
    """Run until told to go; the exit code."""
    settings = from_environment(WorkerSettings)
    configure_logging(settings.log_format, "worker")
    try:
        device = find_device(settings.device)
    except DeviceMissing as error:
        log.error("no_device", error=str(error))
        return 1
    found = versions()
    if "torch" not in found:
        log.error("no_torch", error="torch is not installed here: pip install 'bnlab[train]'")
        return 1
    if settings.exit_on_eof:
        exit_on_eof(sys.stdin.fileno(), lambda: _leave(settings.grace_seconds + _ORPHAN_SECONDS))
    return run(settings, device, found)


def run(settings: WorkerSettings, device: Device, found: dict[str, str]) -> int:
    """Everything the worker does; the exit code."""
    process_id = new_process_id()
    redis_url = settings.redis_url.get_secret_value()
    database = Database(settings.database_url.get_secret_value())
    for layout in abandoned(settings.runs_dir):
        give_back(database, layout)
    for path in remove_leftovers(settings.runs_dir):
        log.info("leftover_removed", path=str(path))
    app = create_celery(redis_url)
    broker = Broker(app, redis_url)
    supervisor = Supervisor(database, settings, device, process_id=process_id, torch_version=found["torch"])
    heart = Heart(
        database,
        broker,
        kind="worker",
        process_id=process_id,
        every_seconds=settings.heartbeat_seconds,
        versions=found,
        device=device,
        working_on=lambda: supervisor.job_id,
        trouble=lambda: supervisor.trouble,
    )
    log.info("started", pid=os.getpid(), device=device.kind, device_model=device.model)
    _go_on_signals(supervisor.shut_down)
    # What no bell says: the broker is away or has lost it, or a job may be claimed only from now on.
    looking = Repeating("look", supervisor.look, settings.look_seconds, sooner=supervisor.pause)
    supervisor.warm_up()
    heart.start()
    looking.start()
    try:
        return _serve(app, supervisor, device, process_id)
    finally:
        looking.stop(settings.grace_seconds + _ORPHAN_SECONDS)
        supervisor.close()
        heart.stop()
        broker.close()
        database.dispose()
        log.info("stopped")


def _serve(app: Celery, supervisor: Supervisor, device: Device, process_id: str) -> int:
    answer_bells(app, supervisor.run_queue)
    setup_logging.connect(_keep_own_logging)
    try:
        # Threads: a trainer is a process of its own, and a pool of processes would only stand between it and us.
        worker = _Worker(
            app=app,
            hostname=f"{process_id}@{device.kind}",
            pool_cls="threads",
            concurrency=1,
            queues=[queue_of(device.kind)],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        setup_logging.disconnect(_keep_own_logging)


def _keep_own_logging(**_: object) -> None:
    # To have a receiver keeps Celery from setting up logging, but not from showing two warnings of its own: that root
    # is no good user to be (for the sake of pickle, which is not accepted), and, whenever the broker is lost, that a
    # setting which is set here will have another default in Celery 6.
    for category in (SecurityWarning, CPendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)


class _Worker(CeleryWorker):  # type: ignore[misc]
    """Celery's, whose own handlers would replace ours, and whose SIGHUP would execute it anew."""

    def install_platform_tweaks(self, _worker: CeleryWorker) -> None:
        return


def _go_on_signals(shut_down: Callable[[], None]) -> None:
    """From here on any signal to go means the same: hand back, then end."""

    def go(_number: int, _frame: object) -> None:
        shut_down()
        state.should_stop = EX_OK
        # Another thread's, since a loop does not wake itself; it would see the signal when its pause is over.
        threading.Thread(target=turn_event_loop, args=(0.0,), daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, go)


def _leave(at_most_seconds: float) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(at_most_seconds)
    os._exit(1)
