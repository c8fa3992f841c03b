"""What is the machine's fault costs a job nothing but time, and leaves nothing behind."""

import subprocess
import sys

import pytest

from bncore.run_directory import EXIT_BUSY, EXIT_DISK_FULL
from store.jobs.failures import CODES, Remedy
from store.work import Failed
from worker.ending import Exit, judge

_FULL = """
import resource, sys
from pathlib import Path
from worker.room import trouble_in
# As on a full disk, no file can have a byte.
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(0 if trouble_in(Path(sys.argv[1]), 0) else 1)
"""


@pytest.mark.parametrize(("returncode", "code"), [(EXIT_DISK_FULL, "disk_full"), (EXIT_BUSY, "trainer_busy")])
def test_an_exit_code_that_blames_the_machine_is_believed_without_an_event(returncode, code):
    outcome = judge(Exit(None, returncode, True, ""), None)
    assert isinstance(outcome, Failed)
    assert outcome.code == code
    assert CODES[code].remedy is Remedy.WAIT


def test_looking_for_room_on_a_full_disk_leaves_no_file(tmp_path):
    assert subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []
