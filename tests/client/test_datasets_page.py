"""docs/datasets.md as it stands: its commands run in one shell against a real stack."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "datasets.md").read_text()
BLOCKS = blocks_of(PAGE)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    script = script_of(BLOCKS)
    script += '\nif bnlab dataset delete flowers; then exit 9; fi\nbnlab dataset show "$upload"\n'
    done = run_in(tmp_path, stack, "bash", "-c", script, columns=200)
    assert re.search(r"a: 100, b: 100, c: 100", done.stdout), done.stdout
    assert re.search(r"^test accuracy +0\.9\d+ *$", done.stdout, re.MULTILINE), done.stdout
    assert "succeeded {'train': 200}" in done.stdout
    assert (tmp_path / "train-inputs.npy").read_bytes().startswith(b"\x93NUMPY")
    assert re.search(r"It is used by exp_\w{32}", done.stderr), done.stderr
