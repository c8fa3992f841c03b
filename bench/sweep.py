"""What the service adds to a sweep: `python -m bench.sweep` trains 64 MLPs on the digits through a stack of its own.

The trainers' own seconds are those that they spend in training steps (`summary.seconds`). Beside them stand the time
that the sweep took, times the workers, and the CPU of every process of the stack, also as milliseconds an experiment:
on a machine that others use the CPU alone means something. Target: 15 % on top of the trainers' seconds.

The stack is one that has warmed up: each worker has imported torch, and has trained once. `--cold` submits as soon as
the stack is up, some seconds earlier: what is imported then is in all the figures.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from client import Client
from client.local.interrupts import Interrupts
from client.local.places import Places
from client.local.stack import StackSettings, running

READY_SECONDS = 120.0
ROLES = ("worker.relay", "worker", "redis_server", "api")


def main() -> None:
    """Train the sweep and print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each experiment")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="do not wait until the workers can train at once")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-sweep-"))
    try:
        settings = StackSettings(Places(directory), workers=arguments.workers, device="cpu")
        with running(settings, Interrupts()) as stack, Client(stack.url, stack.api_key) as client:
            if not arguments.cold:
                _warm_up(client, settings.places.logs_dir, arguments.workers)
            _measure(client, arguments.steps, arguments.workers)
    finally:
        shutil.rmtree(directory)


def _warm_up(client: Client, logs: Path, workers: int) -> None:
    """Wait until every worker has a process that forks trainers, and has forked one or more."""
    files = [logs / ("worker.log" if number == 1 else f"worker-{number}.log") for number in range(1, workers + 1)]
    until = time.monotonic() + READY_SECONDS
    while not all(_has_logged(file, "trainer_ready") for file in files):
        if time.monotonic() > until:
            raise SystemExit(f"no trainers after {READY_SECONDS:g} seconds: see {logs}")
        time.sleep(0.1)
    while not all(_has_logged(file, "attempt_ended") for file in files):
        client.wait_sweep(client.submit_sweep(_sweep(1, max(2, workers)))["id"])


def _has_logged(file: Path, event: str) -> bool:
    return re.search(rf'"event": ?"{event}"', file.read_text()) is not None


def _sweep(steps: int, rates: int) -> dict[str, Any]:
    """With 8 seeds."""
    return {
        "template": {"network": {"kind": "mlp", "hidden": [100, 100, 100]}, "train": {"steps": steps}},
        "axes": {"optimizer.lr": {"kind": "grid", "low": 0.001, "high": 1.0, "count": rates, "scale": "log"}},
        "seeds": 8,
    }


def _measure(client: Client, steps: int, workers: int) -> None:
    before, began = _cpu_seconds(), time.perf_counter()
    made = client.submit_sweep(_sweep(steps, 8))
    ended = client.wait_sweep(made["id"])
    elapsed = time.perf_counter() - began
    after = _cpu_seconds()
    results = client.sweep_results(made["id"], ["seconds"])
    own = [seconds for point in results["points"] for seconds in point["measures"]["seconds"]["by_seed"].values()]
    spent = {role: after[role] - before[role] for role in after}
    whole = sum(spent.values())
    each = ", ".join(f"{role} {1000 * seconds / len(own):.1f}" for role, seconds in spent.items())
    sys.stdout.write(
        f"{len(own)} experiments {ended['state']}; trainers' own {sum(own):.1f} s\n"
        f"elapsed {elapsed:.1f} s with {workers} workers: {elapsed * workers / sum(own):.3f} of the trainers' own\n"
        f"CPU {whole:.1f} s, {whole / sum(own):.3f} of the trainers' own\n"
        f"CPU of an experiment {1000 * whole / len(own):.1f} ms ({each}), of them {1000 * sum(own) / len(own):.1f} "
        "the trainer's own\n"
    )


def _cpu_seconds() -> dict[str, float]:
    """By role, of the processes of this stack. Trainers are what workers have reaped; who forks them has a role too,
    and what it has reaped."""
    found = dict.fromkeys((*ROLES, "zygote", "trainers"), 0.0)
    for process in psutil.Process().children(recursive=True):
        try:
            words, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        of_children = times.children_user + times.children_system
        role = next((role for role in ROLES if role in words), None)
        if "zygote" in words:
            found["zygote"] += times.user + times.system + of_children
        elif role is not None:
            found[role] += times.user + times.system
            found["trainers"] += of_children if role == "worker" else 0.0
    return found


if __name__ == "__main__":
    main()
