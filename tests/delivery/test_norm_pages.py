"""The pages about normalizations are what the code says of itself."""

import subprocess
import sys
from pathlib import Path

from bncore.spec import kinds

PAGES = Path(__file__).parents[2] / "docs" / "norms"


def test_the_pages_are_those_that_the_docstrings_make(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PAGES.parent / "write_norm_pages.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    assert kept == made, "run `make pages`"


def test_every_kind_has_a_page_with_its_paper() -> None:
    for kind in kinds("normalizers"):
        page = (PAGES / f"{kind.kind}.md").read_text()
        assert "## When to use it" in page
        assert "## What it costs" in page
        assert kind.kind in ("none", "masked_batch_norm") or "arXiv" in page, kind.kind
