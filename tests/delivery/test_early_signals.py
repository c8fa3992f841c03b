"""Told to end while it is still being imported, a process ends as it should."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import catches


def _has_imported_much(pid):
    return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("module", ["api", "worker", "worker.relay"])
def test_a_process_that_is_being_imported_ends_well_on_sigterm(module, tmp_path):
    with subprocess.Popen([sys.executable, "-P", "-m", module], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            _await_handler(process.pid)
            process.terminate()
            _, said = process.communicate(timeout=180.0)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, b"")


def _await_handler(pid):
    deadline = time.monotonic() + 180.0
    while not catches(pid, signal.SIGTERM):
        late = _has_imported_much(pid) and not catches(pid, signal.SIGTERM)
        assert not late, "a signal now would kill it"
        assert time.monotonic() < deadline
        time.sleep(0.001)
