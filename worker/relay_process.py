"""The relay: rings the bells of the outbox, reaps, purges.

Invariant: it keeps nothing in memory that matters; killed and started again, or running twice, it loses nothing.
"""

import os
import signal
import sys
import threading

import structlog

from bncore.lifeline import exit_on_eof
from store.database import Database
from store.processes import new_process_id
from store.settings import from_environment
from store.signals import signal_of
from worker.bells import Bells
from worker.broker import Broker
from worker.celery_app import create_celery
from worker.device import versions
from worker.heartbeat import Heart
from worker.housekeeping import Purge, Reaper, Waking
from worker.log import configure_logging
from worker.pruning import Pruning
from worker.repeating import Repeating
from worker.searching import Searching
from worker.settings import RelaySettings

log = structlog.get_logger()


def main() -> int:
    """Run until SIGTERM, SIGINT or, if so told, the end of standard input."""
    settings = from_environment(RelaySettings)
    configure_logging(settings.log_format, "relay")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if settings.exit_on_eof:
        exit_on_eof(sys.stdin.fileno(), stop.set)
    run(settings, stop)
    return 0


def run(settings: RelaySettings, stop: threading.Event) -> None:
    """Everything the relay does, in threads of their own, until `stop`."""
    redis_url = settings.redis_url.get_secret_value()
    database = Database(settings.database_url.get_secret_value())
    broker = Broker(create_celery(redis_url), redis_url)
    heart = Heart(
        database,
        broker,
        kind="relay",
        process_id=new_process_id(),
        every_seconds=settings.heartbeat_seconds,
        versions=versions(),
    )
    turns = _turns(settings, database, broker, stop)
    log.info("started", pid=os.getpid())
    heart.start()
    for turn in turns:
        turn.start()
    stop.wait()
    for turn in turns:
        turn.stop()
    heart.stop()
    broker.close()
    database.dispose()
    log.info("stopped")


def _turns(settings: RelaySettings, database: Database, broker: Broker, stop: threading.Event) -> list[Repeating]:
    bells = Bells(database, broker)
    reaper = Reaper(database, lease_seconds=settings.lease_seconds, every_seconds=settings.reap_every_seconds)
    hung = signal_of(database, "bnlab_bells", stop)
    return [
        Repeating("ring", bells.ring, settings.poll_seconds, stop=stop, sooner=hung.wait),
        Repeating("reap", reaper.turn, settings.reap_every_seconds),
        Repeating("wake", Waking(database).turn, settings.poll_seconds),
        Repeating("prune", Pruning(database).turn, settings.poll_seconds, stop=stop),
        Repeating("search", Searching(database).turn, settings.search_seconds, stop=stop),
        Repeating("purge", Purge(database).turn, settings.purge_seconds),
    ]
