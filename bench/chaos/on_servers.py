"""Actions on what the service stands on: Redis, PostgreSQL, connections, the disk of the runs."""

import signal
import threading

from bench.chaos.on_processes import NothingThere, chosen
from bench.chaos.processes import after
from bench.chaos.scene import WORKERS, Scene
from bench.chaos.schedule import Action

_DATABASE_USERS = ("api", "relay", *WORKERS)
_BROKER_USERS = ("relay", *WORKERS)


def redis(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Kill it, with or without its data, or stop and continue it."""
    if action.kind == "redis_stopped":
        scene.redis.send_signal(signal.SIGSTOP)
        after(action.lasts_seconds, ending, lambda: scene.redis.send_signal(signal.SIGCONT))
    else:
        scene.redis.kill(data_lost=action.kind.endswith("_lost"))
        after(action.lasts_seconds, ending, scene.redis.start)
    return ""


def postgresql(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Shut it down, crash it, or stop and continue it."""
    server = scene.postgresql
    assert server is not None
    if action.kind == "postgresql_stopped":
        processes = server.freeze()
        after(action.lasts_seconds, ending, lambda: server.thaw(processes))
        return f"{len(processes)} processes"
    if action.kind == "postgresql_crashed":
        server.crash()
    else:
        server.shut_down()
    after(action.lasts_seconds, ending, server.start)
    return ""


def connections(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Cut a process off, drop its connections, or let its requests through and no answer."""
    what, _, how = action.kind.partition("_")
    if what == "api":
        place = ("api", "clients")
    else:
        place = (chosen(action, _BROKER_USERS if what == "redis" else _DATABASE_USERS), what)
    proxy = scene.proxies[place]
    if how == "connections_dropped":
        proxy.drop()
    elif how == "connections_cut":
        proxy.cut()
        after(action.lasts_seconds, ending, proxy.mend)
    else:
        proxy.withhold_answers()
        after(action.lasts_seconds, ending, proxy.drop)
    return f"{place[0]} to {place[1]}"


def disk(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Fill the disk of the runs, and free it."""
    if scene.disk is None:
        raise NothingThere(scene.no_small_disk)
    scene.disk.stay_full(ending, action.lasts_seconds)
    return ""
