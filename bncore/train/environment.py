"""Where a run computes, set up so that the same spec gives the same bits again.

Everything here is process-wide: a process trains one run.
"""

import os
import platform
import re
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from bncore.seeds import derive_seed
from bncore.spec import ExperimentSpec

CUBLAS_WORKSPACE = ":4096:8"
"""With a workspace of its own for each stream cuBLAS is deterministic; read when CUDA starts."""


class Environment(BaseModel):
    """What bit-exact resumption depends on; stored with every training state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cpu", "cuda"]
    device_model: str
    torch_version: str
    threads: int
    memory_format: Literal["contiguous"] = "contiguous"


def prepare(spec: ExperimentSpec) -> Environment:
    """Choose the device and fix everything that could make two runs differ. Raises RuntimeError without that device."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory catches programs that read it; it costs a pass over every output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    _forbid_tf32()
    torch.set_num_threads(spec.resources.threads)
    device = _device(spec)
    # Seeds every device; dropout is the one consumer, for order and initialization have streams of their own.
    torch.manual_seed(derive_seed(spec.train.seed, "training"))
    return Environment(
        device=device,
        device_model=torch.cuda.get_device_name() if device == "cuda" else processor_model(),
        torch_version=torch.__version__,
        threads=spec.resources.threads,
    )


def processor_model() -> str:
    """The name of the processor, as far as the system tells."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        described = ""
    named = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _forbid_tf32() -> None:
    # TensorFloat-32 keeps 10 bits of the mantissa: a spec that says fp32 means 23. Said in torch's old way as well as
    # in its new one: where they differ, whatever asks in the old way fails, and `torch.export` does so half-way through
    # turning kernels off.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
    for backend in backends:
        backend.fp32_precision = "ieee"


def _device(spec: ExperimentSpec) -> Literal["cpu", "cuda"]:
    asked = spec.resources.device
    if asked == "cpu" or not torch.cuda.is_available():
        if asked == "cuda":
            raise RuntimeError("the spec asks for cuda, and this machine has no CUDA device")
        return "cpu"
    return "cuda"
