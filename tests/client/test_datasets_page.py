"""docs/datasets.md as it stands: its commands run in one shell against a real stack."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def in_bash(language: str, text: str) -> str:
    return text if language == "bash" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    script = "set -e\n" + "\n".join(in_bash(*block) for block in BLOCKS)
    script += '\nif bnlab dataset delete flowers; then exit 9; fi\nbnlab dataset show "$upload"\n'
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BNLAB_", "PYTEST"))}
    environment = {"BNLAB_URL": stack.url, "BNLAB_API_KEY": stack.api_key, "HOME": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**kept, **environment, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"a: 100, b: 100, c: 100", done.stdout), done.stdout
    assert re.search(r"^test accuracy +0\.9\d+ *$", done.stdout, re.MULTILINE), done.stdout
    assert "succeeded {'train': 200}" in done.stdout
    assert (tmp_path / "train-inputs.npy").read_bytes().startswith(b"\x93NUMPY")
    assert re.search(r"It is used by exp_\w{32}", done.stderr), done.stderr
