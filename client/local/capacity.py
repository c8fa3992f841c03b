"""How many workers a machine is good for: one for each run that its cores can train side by side."""

import os
import shutil
from pathlib import Path

from bncore.spec import load_spec

BYTES_A_WORKER = 1 << 30
"""A worker, its waiting trainer and the run of a small network, with some room."""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def default_workers(device: str) -> int:
    """Cores by the threads of a run, as far as memory goes. One where there may be a GPU: runs do not share it well."""
    if device == "cuda" or (device == "auto" and shutil.which("nvidia-smi") is not None):
        return 1
    threads = load_spec({}).resources.threads
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores() // threads, memory // BYTES_A_WORKER))


def _cores() -> int:
    """Those that this process may use: fewer than there are under `taskset`, or in a container with a quota."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(mine, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return mine  # no quota, which is spelt "max", or not Linux
