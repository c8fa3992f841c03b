"""Actions on processes: the service's own, and the trainers and waiting processes below its workers."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psutil

from bench.chaos.processes import after
from bench.chaos.scene import WORKERS, Scene
from bench.chaos.schedule import Action
from bench.chaos.trainers import Trainer, children, is_waiting, trainer_at

_FIND_SECONDS = 10.0
_FIND_AGAIN_SECONDS = 0.05


Found = TypeVar("Found")


class NothingThere(Exception):
    """Nothing to do it to."""


def chosen(action: Action, names: Sequence[str]) -> str:
    """One of them."""
    return names[int(action.choice * len(names))]


def trainer(scene: Scene, action: Action, ending: threading.Event) -> str:
    """Kill, terminate or stop and continue a trainer."""
    found = _found(scene.monitor.all_trainers, action)
    _hit(found.process, action, ending)
    return _told(found)


def zygote(scene: Scene, action: Action, ending: threading.Event) -> str:
    """The same to the waiting process of a worker."""
    name = chosen(action, WORKERS)
    waiting = _found(lambda: [one for one in children(scene.processes.pid(name)) if is_waiting(one)], action)
    _hit(waiting, action, ending)
    return f"{name}, process {waiting.pid}"


def worker(scene: Scene, action: Action, ending: threading.Event) -> str:
    return _service(scene, chosen(action, WORKERS), action, ending)


def relay(scene: Scene, action: Action, ending: threading.Event) -> str:
    return _service(scene, "relay", action, ending)


def api(scene: Scene, action: Action, ending: threading.Event) -> str:
    return _service(scene, "api", action, ending)


def worker_and_trainer(scene: Scene, action: Action, ending: threading.Event) -> str:
    """As when a machine is switched off or suspended."""
    name = chosen(action, WORKERS)
    processes = scene.processes
    with processes.taking(name):
        below = children(processes.pid(name))
        words = f"{name}, {_who(below)}"
        if action.kind.endswith("_stopped"):
            _all(below, psutil.Process.suspend)
            processes.send_signal(name, signal.SIGSTOP)
            after(action.lasts_seconds, ending, lambda: processes.send_signal(name, signal.SIGCONT))
            _all(below, psutil.Process.resume)
        else:
            _all(below, psutil.Process.suspend)
            processes.kill(name)
            _all(below, psutil.Process.kill)
            after(action.lasts_seconds, ending, lambda: processes.start(name))
    return words


def worker_killed_while_trainer_stopped(scene: Scene, action: Action, ending: threading.Event) -> str:
    """As when a worker dies that had stopped its trainer for want of a lease; nobody will continue that one."""
    processes = scene.processes
    name = _found(lambda: [name for name in WORKERS if _trains(scene, name)], action)
    with processes.taking(name):
        below = [process for process in children(processes.pid(name)) if trainer_at(process) is not None]
        if not below:
            raise NothingThere
        words = f"{name}, {_who(below)}"
        _all(below, psutil.Process.suspend)
        processes.kill(name)
        after(action.lasts_seconds, ending, lambda: processes.start(name))
    return words


def _service(scene: Scene, name: str, action: Action, ending: threading.Event) -> str:
    processes = scene.processes
    with processes.taking(name):
        if processes.pid(name) is None:
            raise NothingThere
        words = f"{name}, {_who(children(processes.pid(name)))}"
        if action.kind.endswith("_stopped"):
            processes.send_signal(name, signal.SIGSTOP)
            after(action.lasts_seconds, ending, lambda: processes.send_signal(name, signal.SIGCONT))
        elif action.kind.endswith("_killed"):
            processes.kill(name)
            after(action.lasts_seconds, ending, lambda: processes.start(name))
        else:
            words += f", exit code {processes.terminate(name)}"
            after(action.lasts_seconds, ending, lambda: processes.start(name))
    return words


def _trains(scene: Scene, name: str) -> bool:
    return any(trainer_at(process) is not None for process in children(scene.processes.pid(name)))


def _hit(process: psutil.Process, action: Action, ending: threading.Event) -> None:
    try:
        if action.kind.endswith("_killed"):
            process.kill()
        elif action.kind.endswith("_terminated"):
            process.terminate()
        else:
            process.suspend()
            after(action.lasts_seconds, ending, lambda: _all([process], psutil.Process.resume))
    except psutil.NoSuchProcess as error:
        raise NothingThere from error


def _found(look: Callable[[], list[Found]], action: Action) -> Found:
    """One of those that there are, as soon as there are any."""
    deadline = time.monotonic() + _FIND_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise NothingThere
        time.sleep(_FIND_AGAIN_SECONDS)
    return found[int(action.choice * len(found))]


def _all(processes: Sequence[psutil.Process], act: object) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)  # type: ignore[operator]


def _who(processes: Sequence[psutil.Process]) -> str:
    trainers = [found for process in processes if (found := trainer_at(process)) is not None]
    return "; ".join(_told(found) for found in trainers) or "which trained nothing"


def _told(found: Trainer) -> str:
    return f"{found.experiment_id} attempt {found.attempt} (process {found.process.pid})"
