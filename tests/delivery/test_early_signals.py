"""Told to end while it is still being imported, a process ends as it should."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _catches_sigterm(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    raise AssertionError("no such line")


def _has_imported_much(pid):
    return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("module", ["api", "worker", "worker.relay"])
def test_a_process_that_is_being_imported_ends_well_on_sigterm(module, tmp_path):
    with subprocess.Popen([sys.executable, "-P", "-m", module], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            _await_handler(process.pid)
            process.terminate()
            _, said = process.communicate(timeout=30.0)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, b"")


def _await_handler(pid):
    deadline = time.monotonic() + 30.0
    while not _catches_sigterm(pid):
        late = _has_imported_much(pid) and not _catches_sigterm(pid)
        assert not late, "a signal now would kill it"
        assert time.monotonic() < deadline
        time.sleep(0.001)
