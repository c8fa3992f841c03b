"""Where a run computes, set up so that the same spec gives the same bits again.

Everything here is process-wide: a process trains one run.
"""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from bncore.seeds import derive_seed
from bncore.spec import ExperimentSpec
from bncore.spec.budget import DeviceSpec

CUBLAS_WORKSPACE = ":4096:8"
"""With a workspace of its own for each stream cuBLAS is deterministic; read when CUDA starts."""


_LIMITS = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""Variables by which kernels are told to use less than the processor has."""

_VECTOR_FLAGS = re.compile(r"(avx|fma|amx|asimd|sve|vx)\w*|f16c|bf16|i8mm|vsx")
"""Flags of a processor that decide which kernels MKL and oneDNN choose; x86, ARM, Power, Z."""


class Environment(BaseModel):
    """What bit-exact resumption depends on; stored with every training state. None: stored before it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cpu", "cuda"]
    device_model: str
    torch_version: str
    threads: int
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    torch_build: str | None = None
    cpu_capability: str | None = None
    vector_instructions: str | None = None
    instruction_limits: str | None = None
    compiler: str | None = None
    """What makes the kernels of `resources.compile`; empty without."""

    def changes_since(self, then: "Environment") -> list[str]:
        """What is known to differ from `then`, in words; nothing where it is not known."""
        old, new = then.model_dump(), self.model_dump()
        return [
            f"{name} {old[name] or 'none'} -> {new[name] or 'none'}"
            for name in old
            if old[name] is not None and old[name] != new[name]
        ]


def prepare(spec: ExperimentSpec) -> Environment:
    """Choose the device and fix everything that could make two runs differ.

    Raises RuntimeError without that device, or without a compiler where the spec asks for one.
    """
    device = prepare_device(spec.resources)
    # Dropout is the one consumer, for order and initialization have streams of their own.
    _seed(device, derive_seed(spec.train.seed, "training"))
    return Environment(
        device=device,
        device_model=torch.cuda.get_device_name() if device == "cuda" else processor_model(),
        torch_version=torch.__version__,
        threads=spec.resources.threads,
        memory_format="channels_last" if spec.resources.channels_last else "contiguous",
        torch_build=_torch_build(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        vector_instructions=_vector_instructions(),
        instruction_limits=" ".join(f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ),
        compiler=_compiler(device) if spec.resources.compile else "",
    )


def _seed(device: Literal["cpu", "cuda"], seed: int) -> None:
    if device == "cpu":
        # Looking for devices of every kind is a millisecond in a process that was just forked.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def prepare_device(asked: DeviceSpec) -> Literal["cpu", "cuda"]:
    """The device to compute on, repeatably. Raises RuntimeError where it is not there."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    # What `use_deterministic_algorithms` does, without importing the compiler to tell it.
    torch.set_deterministic_debug_mode("error")
    # Filling fresh memory catches programs that read it; it costs a pass over every output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    _forbid_tf32()
    torch.set_num_threads(asked.threads)
    if asked.device == "cpu" or not torch.cuda.is_available():
        if asked.device == "cuda":
            raise RuntimeError("the spec asks for cuda, and this machine has no CUDA device")
        return "cpu"
    return "cuda"


def processor_model() -> str:
    """The name of the processor, as far as the system tells."""
    named = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


@functools.cache
def _vector_instructions() -> str:
    """A model such as "AMD EPYC" names processors of many kinds, and a hypervisor may hide what one has."""
    listed = re.search(r"^(?:flags|features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE | re.IGNORECASE)
    flags = listed[1].split() if listed else ()
    return " ".join(sorted({flag for flag in flags if _VECTOR_FLAGS.fullmatch(flag)}))


@functools.cache
def _torch_build() -> str:
    """One version of torch is built in many ways: with MKL or without, for this CUDA or that."""
    shown = [line for line in torch.__config__.show().splitlines() if "CPU capability usage" not in line]
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()[:16]


def _compiler(device: Literal["cpu", "cuda"]) -> str:
    """Its name and version. Looked for here, since torch says so only after half a minute, in many lines."""
    if device == "cuda":
        return f"triton {importlib.metadata.version('triton')}"
    # What torch takes where nothing else is configured.
    program = os.environ.get("CXX", "g++")
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = f"resources.compile needs a C++ compiler, and this worker has no {program}"
        raise RuntimeError(f"{detail}: install one, or leave compile out") from error
    return said.stdout.partition("\n")[0]


@functools.cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""


def _forbid_tf32() -> None:
    # TensorFloat-32 keeps 10 bits of the mantissa: a spec that says fp32 means 23. Said in torch's old way as well as
    # in its new one: where they differ, whatever asks in the old way fails, and `torch.export` does so half-way through
    # turning kernels off.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
    for backend in backends:
        backend.fp32_precision = "ieee"
