"""What the service adds to a sweep: `python -m bench.sweep` trains 64 MLPs on the digits through a stack of its own.

The trainers' own seconds are those that they spend in training steps (`summary.seconds`). Beside them stand the time
that the sweep took, times the workers, and the CPU seconds of every process of the stack: on a machine that others use
the CPU seconds alone mean something. Target: 15 % on top of the trainers' seconds.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from client import Client
from client.local.interrupts import Interrupts
from client.local.places import Places
from client.local.stack import StackSettings, running

ROLES = ("worker.relay", "worker", "redis_server", "api")


def main() -> None:
    """Train the sweep and print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each experiment")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bnlab-sweep-"))
    try:
        settings = StackSettings(Places(directory), workers=arguments.workers, device="cpu")
        with running(settings, Interrupts()) as stack, Client(stack.url, stack.api_key) as client:
            _measure(client, arguments.steps, arguments.workers)
    finally:
        shutil.rmtree(directory)


def _measure(client: Client, steps: int, workers: int) -> None:
    sweep = {
        "template": {"network": {"kind": "mlp", "hidden": [100, 100, 100]}, "train": {"steps": steps}},
        "axes": {"optimizer.lr": {"kind": "grid", "low": 0.001, "high": 1.0, "count": 8, "scale": "log"}},
        "seeds": 8,
    }
    before, began = _cpu_seconds(), time.perf_counter()
    made = client.submit_sweep(sweep)
    ended = client.wait_sweep(made["id"])
    elapsed = time.perf_counter() - began
    after = _cpu_seconds()
    results = client.sweep_results(made["id"], ["seconds"])
    own = [seconds for point in results["points"] for seconds in point["measures"]["seconds"]["by_seed"].values()]
    spent = {role: after[role] - before[role] for role in after}
    trained, served = spent.pop("trainers"), sum(spent.values())
    said = ", ".join(f"{role} {seconds:.1f}" for role, seconds in spent.items())
    sys.stdout.write(
        f"{len(own)} experiments {ended['state']}; trainers' own {sum(own):.1f} s\n"
        f"elapsed {elapsed:.1f} s with {workers} workers: {elapsed * workers / sum(own):.2f} of the trainers' own\n"
        f"CPU of trainers {trained:.1f} s, {trained / sum(own):.2f} of their own\n"
        f"CPU of the service {served:.1f} s ({said}), {served / sum(own):.2f} of the trainers' own\n"
    )


def _cpu_seconds() -> dict[str, float]:
    """By role, of the processes of this stack. Trainers are what workers have reaped, and what their zygotes have."""
    found = dict.fromkeys((*ROLES, "trainers"), 0.0)
    for process in psutil.Process().children(recursive=True):
        try:
            words, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        of_children = times.children_user + times.children_system
        role = next((role for role in ROLES if role in words), None)
        if "zygote" in words:
            found["trainers"] += times.user + times.system + of_children
        elif role is not None:
            found[role] += times.user + times.system
            found["trainers"] += of_children if role == "worker" else 0.0
    return found


if __name__ == "__main__":
    main()
