"""torch stays in the trainer."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["worker", "worker.__main__", "worker.relay"])
def test_importing_it_leaves_torch_out(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
