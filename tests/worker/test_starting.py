"""A worker that is told to go while it starts."""

import signal
import subprocess
import sys
import time

import pytest

from tests.stack import catches


@pytest.mark.skipif(sys.platform != "linux", reason="sees from outside which signals a process catches")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_while_it_still_imports_it_just_goes(number, tmp_path):
    command = [sys.executable, "-P", "-m", "worker"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as worker:
        deadline = time.monotonic() + 180.0
        while not catches(worker.pid, number):
            assert worker.poll() is None
            assert time.monotonic() < deadline
        worker.send_signal(number)
        assert worker.wait(180.0) == 0
        assert worker.stdout.read() == b""
