"""A disk that is full: a file system in memory of so many bytes, which only the process that trains in it sees."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = 4096
"""Files take whole ones."""
IN_A_SMALL_FILE_SYSTEM = """
set -e
mount -t tmpfs -o size=$2 none "$1"
cp spec.json "$1"
code=0
"$3" -P -m bncore "$1" 2>stderr || code=$?
cp -r "$1" left
exit $code
"""


def small(folder: Path, spec: dict[str, Any], size: str) -> subprocess.CompletedProcess[bytes]:
    """Train in a file system of so many bytes; what is left of it is in `folder / "left"`."""
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "small").mkdir()
    names = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*names, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounts a file system of its own, for which this system has no user namespaces")
    command = [*names, "sh", "-c", IN_A_SMALL_FILE_SYSTEM, "sh", str(folder / "small"), size, sys.executable]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True)


def room(path: Path) -> int:
    """Bytes that the content of a file takes."""
    return -(-path.stat().st_size // PAGE) * PAGE
