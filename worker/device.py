"""What this worker computes on, and with which versions, found out without importing torch.

Invariant: the answers stay the same for the life of a machine, because an experiment resumes only on a worker that
gives the answers of the first (`store.leases.claim`).
"""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

_PACKAGES = ("bnlab", "torch", "celery", "scipy", "mlxtend")
_SMI_SECONDS = 30


class DeviceMissing(Exception):
    """The worker was told to use a device that is not there."""


@dataclass(frozen=True)
class Device:
    """A kind, which names the queue, and a model, as its maker calls it."""

    kind: Literal["cpu", "cuda"]
    model: str


def find_device(asked: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device to work on; `auto` is the GPU if there is one that the installed torch can use."""
    if asked != "cpu":
        gpu = _gpu_model()
        if gpu is not None and (asked == "cuda" or _torch_has_cuda()):
            return Device("cuda", gpu)
        if asked == "cuda":
            raise DeviceMissing("BNLAB_DEVICE is cuda, but nvidia-smi finds no GPU")
    return Device("cpu", _cpu_model())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run computes; an absent one is left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpu_model() -> str | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    smi = shutil.which("nvidia-smi")
    if smi is None or visible in ("", "-1"):
        return None
    command = [smi, "--query-gpu=name", "--format=csv,noheader", "-i", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def _torch_has_cuda() -> bool:
    return not versions().get("torch", "+cpu").endswith("+cpu")


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
